"""Craft in a real browser: what is on the screen, what charts look like, what search, columns and copy buttons do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.matrix import sample
from tests.site.test_browser import AXE, DESK, PHONE, column, kinds, opened, visit

#: Pages with charts, by the beginning of their names.
CHARTED = ("index", "accuracy", "robustness", "weight-norm", "study-")
#: Pixels by which boxes of text may overlap: around letters they hold some air.
AIR = 2.5
#: Of every chart: texts that lie on each other or on a mark, and how much of its card it fills.
BOXES = """air => [...document.querySelectorAll('figure .plot > svg')].map(svg => {
    const seen = e => e.getBoundingClientRect().width > 0 && Number(getComputedStyle(e).opacity) > 0;
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim() && seen(t));
    const boxes = texts.map(t => t.getBoundingClientRect());
    const marks = [...svg.querySelectorAll('.mark-symbol path')].filter(seen).map(m => m.getBoundingClientRect());
    const collisions = [];
    const both = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > air
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > air;
    boxes.forEach((a, i) => {
        boxes.slice(i + 1).forEach((b, j) => {
            if (both(a, b)) collisions.push([texts[i].textContent, texts[i + 1 + j].textContent]);
        });
        marks.forEach(m => {
            const x = (m.left + m.right) / 2, y = (m.top + m.bottom) / 2;
            if (m.width < 20 && both(a, {left: x - air, right: x + air, top: y - air, bottom: y + air}))
                collisions.push([texts[i].textContent, 'a mark']);
        });
    });
    const style = getComputedStyle(svg.parentElement), room = svg.parentElement.clientWidth
        - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return {id: svg.closest('figure').id, collisions, fills: svg.getBoundingClientRect().width / room};
})"""


@pytest.fixture(params=sample(["site", "committed"], ["site"]))
def built(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def charted(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*.html")) if p.name.startswith(CHARTED)]


@pytest.mark.parametrize("viewport", sample([DESK, PHONE], [DESK]), ids=["desk", "phone"])
def test_charts_fill_their_cards_and_no_label_meets_another_or_a_mark(browser, built, viewport) -> None:
    seen = 0
    with opened(browser, viewport=viewport) as (page, _):
        for path in charted(built):
            visit(page, path)
            for chart in page.evaluate(BOXES, AIR):
                assert chart["collisions"] == [], (path.name, chart["id"])
                assert chart["fills"] >= 0.95, (path.name, chart["id"])
                seen += 1
    assert seen > 8


def violations(browser, paths: Iterable[Path], viewport: dict[str, int], scheme: str) -> dict[str, list[object]]:
    """What axe finds, sizes of targets included, by the name of the page."""
    found = {}
    with opened(browser, viewport=viewport, color_scheme=scheme, bypass_csp=True) as (page, _):
        for path in paths:
            visit(page, path)
            page.evaluate(AXE)
            told = page.evaluate(
                "axe.run(document, {resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})"
            )["violations"]
            if told:
                found[path.name] = [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in told]
    return found


LOOKS = list(itertools.product((DESK, PHONE), ("light", "dark")))


@pytest.mark.matrix
@pytest.mark.parametrize(("viewport", "scheme"), LOOKS, ids=["desk-light", "desk-dark", "phone-light", "phone-dark"])
@pytest.mark.parametrize("name", ["site", "hostile", "empty", "lonely", "tuned", "committed"])
def test_axe_finds_nothing_anywhere(browser, request, name, viewport, scheme) -> None:
    assert violations(browser, kinds(request.getfixturevalue(name)), viewport, scheme) == {}


@pytest.mark.parametrize("turn", range(4))
def test_axe_finds_nothing(browser, site, turn) -> None:
    """A page of every kind, a quarter of them as each screen and scheme shows them."""
    assert violations(browser, kinds(site)[turn::4], *LOOKS[turn]) == {}


def test_on_a_phone_the_current_page_is_in_view_and_long_pages_have_an_index(browser, built) -> None:
    inside = """() => {
        const a = document.querySelector('header.site nav a[aria-current]');
        if (!a) return true;
        const r = a.getBoundingClientRect();
        return r.left >= 0 && r.right <= innerWidth;
    }"""
    strips = """() => [...document.querySelectorAll('.legend, .legend li')].map(e => e.getBoundingClientRect())
        .filter(r => r.width && (r.left < 0 || r.right > innerWidth)).length"""
    with opened(browser, viewport=PHONE) as (page, _):
        for path in kinds(built):
            visit(page, path)
            assert page.evaluate(inside), path.name
            assert page.evaluate(strips) == 0, path.name
            screens = page.evaluate("document.documentElement.scrollHeight / innerHeight")
            index = page.locator("main ul[aria-label] a[href^='#'], main nav a[href^='#']").count()
            assert screens <= 8 or index >= 2, (path.name, screens)


def test_columns_that_wait_come_when_a_view_asks_for_them(browser, site) -> None:
    with opened(browser) as (page, troubles):
        read = []
        page.on("request", lambda r: read.append(r.url.rsplit("/", 1)[1]))
        visit(page, site / "runs.html")
        assert not any(name[0] == "c" and name[1].isdigit() for name in read)
        page.locator("details[data-key=columns] summary").click()
        page.get_by_label("Find in Columns").fill("test loss")
        page.locator("details[data-key=columns] label:visible").click()
        page.wait_for_selector('th[data-key="test_loss"]')
        assert all(float(v) > 0 for v in column(page, "test_loss") if v != "–")
        page.locator('button[data-sort="test_loss"]').click()
        address = page.url
        assert "sort=-test_loss" in address
        first = page.locator("#runs").inner_text()
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector('th[data-key="test_loss"][aria-sort=descending]')
        assert page.locator("#runs").inner_text() == first
        assert troubles == []


def test_search_of_runs_finds_full_names_and_suites(browser, site) -> None:
    with opened(browser) as (page, troubles):
        visit(page, site / "runs.html", "#q=spectral")
        assert set(column(page, "method")) == {"sn"}
        page.locator("#search").fill("demo")
        assert page.locator("#count").inner_text() == "46 runs"
        page.locator("#search").fill("nosuchsuite")
        assert page.locator("#count").inner_text() == "0 of 46 runs"
        assert troubles == []


def test_search_of_the_site_finds_and_keeps_its_words_in_the_address(browser, site) -> None:
    with opened(browser) as (page, troubles):
        visit(page, site / "search.html")
        page.locator("#search").fill("group normalization")
        first = page.locator("#found a").first
        assert first.inner_text().startswith("gn: ")
        address = page.url
        assert "#q=group%20normalization" in address
        page.goto("about:blank")
        page.goto(address)
        assert page.locator("#found a").first.inner_text().startswith("gn: ")
        page.locator("#search").fill("zzzz")
        assert page.locator("#count").inner_text() == "Nothing of that name."
        assert page.locator("#elsewhere a").get_attribute("href") == "runs.html#q=zzzz"
        assert troubles == []
    with opened(browser, java_script_enabled=False) as (page, troubles):
        visit(page, site / "search.html")
        assert page.locator("#controls").is_hidden()
        assert page.locator("ul.places a[href='methods/gn.html']").count() == 1
        assert troubles == []


def test_the_command_of_a_trial_is_copied(browser, site) -> None:
    trial = sorted((site / "trials").glob("*.html"))[0]
    with opened(browser, permissions=["clipboard-read", "clipboard-write"]) as (page, troubles):
        visit(page, trial)
        button = page.locator("button[data-copy=commands]")
        button.click()
        page.locator("button[data-copy=commands]", has_text="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#commands").inner_text()
        assert copied.splitlines()[-1] == f".venv/bin/bench rerun {trial.stem} --suite demo"
        assert troubles == []
