"""The site in a real browser, opened from the disk: nothing fails, nothing leaves the page, everything works by
keyboard and without JavaScript.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from normbench.board import Board, Entry, against, boards, compare, discordant, mcnemar

from tests.matrix import sample

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def kinds(folder: Path) -> list[Path]:
    """One page of every kind."""
    trials = sorted((folder / "trials").glob("*.html"))
    failed = [t for t in trials if 'class="notice"' in t.read_text()]
    methods = [folder / "methods" / f"{n}.html" for n in ("gn", "ws-gn")]
    return [*sorted(folder.glob("*.html")), *[m for m in methods if m.is_file()], *trials[:1], *failed[:1]]


@contextmanager
def opened(browser, **options) -> Iterator[tuple[object, list[str]]]:
    """A page that notes every console message above info, every error, every request that is not for a file."""
    context = browser.new_context(**({"viewport": DESK} | options))
    page = context.new_page()
    troubles: list[str] = []
    page.on(
        "console", lambda m: troubles.append(f"console {m.type}: {m.text}") if m.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
    page.on(
        "request",
        lambda r: troubles.append(f"request: {r.url}") if not r.url.startswith(("file://", "data:", "blob:")) else None,
    )
    page.on("requestfailed", lambda r: troubles.append(f"failed: {r.url}"))
    page.on("dialog", lambda d: (troubles.append(f"dialog: {d.message}"), d.dismiss()))
    try:
        yield page, troubles
    finally:
        context.close()


def visit(page, path: Path, fragment: str = "") -> None:
    page.goto("about:blank")
    page.goto(path.as_uri() + fragment)


@pytest.fixture(params=sample(["site", "hostile", "empty", "lonely", "tuned"], ["site", "hostile"]))
def built(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("viewport", "scheme"),
    sample(itertools.product((DESK, PHONE), ("light", "dark")), [(PHONE, "dark")]),
    ids=["desk-light", "desk-dark", "phone-light", "phone-dark"],
)
def test_every_kind_of_page_loads_clean_and_fits(browser, built, scheme, viewport):
    with opened(browser, viewport=viewport, color_scheme=scheme) as (page, troubles):
        for path in kinds(built):
            visit(page, path)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path.name
            assert troubles == [], path.name


def test_no_text_of_a_chart_is_cut(browser, site):
    with opened(browser) as (page, _):
        for name in ("index", "accuracy", "robustness", "weight-norm"):
            visit(page, site / f"{name}.html")
            cut = page.evaluate(
                """() => [...document.querySelectorAll('figure .plot > svg')].flatMap(svg => {
                    const box = svg.closest('figure').getBoundingClientRect();
                    const out = r => r.right > box.right || r.left < box.left
                        || r.bottom > box.bottom || r.top < box.top;
                    return [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
                        .filter(t => out(t.getBoundingClientRect())).map(t => t.textContent);
                })"""
            )
            assert cut == [], name


def test_without_javascript_boards_charts_and_runs_are_there(browser, site):
    with opened(browser, java_script_enabled=False) as (page, troubles):
        for name in ("accuracy", "robustness", "weight-norm"):
            visit(page, site / f"{name}.html")
            assert page.locator("table tbody tr").count() > 5
            assert page.locator("figure svg[role=img]").count() >= 2
            assert page.locator("#theme").is_hidden()
            assert page.locator("button[data-explore]").first.is_hidden()
        visit(page, site / "runs.html")
        assert page.locator("#runs tbody tr").count() == 46
        assert page.locator("#controls").is_hidden()
        visit(page, site / "compare.html")
        assert page.get_by_text("cannot be told apart").count() > 0
        assert troubles == []


def test_explore_draws_a_live_chart_and_only_when_asked(browser, site):
    with opened(browser, color_scheme="dark") as (page, troubles):
        asked = []
        page.on("request", lambda r: asked.append(r.url.rsplit("/", 1)[1]))
        visit(page, site / "robustness.html")
        assert "vega.js" not in asked
        buttons = page.locator("button[data-explore]")
        count = buttons.count()
        assert count >= 3
        for i in range(count):
            buttons.nth(i).click()
        page.locator("[data-live] svg").nth(count - 1).wait_for()
        assert asked.count("vega.js") == 1
        assert page.locator("[data-live] svg").count() == count
        assert troubles == []


def test_the_theme_button_switches_and_is_remembered(browser, site):
    with opened(browser, color_scheme="light") as (page, troubles):
        visit(page, site / "index.html")
        background = "getComputedStyle(document.documentElement).backgroundColor"
        light = page.evaluate(background)
        page.locator("#theme").press("Enter")
        dark = page.evaluate(background)
        assert dark != light
        visit(page, site / "accuracy.html")
        assert page.evaluate(background) == dark
        assert troubles == []


def test_board_filters_keep_their_state_in_the_address(browser, site):
    with opened(browser) as (page, troubles):
        visit(page, site / "accuracy.html")
        page.get_by_label("Family").select_option("weight")
        page.get_by_label("Weight decay").select_option("0.0005")
        shown = page.locator("tr[data-family]:visible")
        assert shown.count() == 3
        assert all("wd 0.0005" in text for text in shown.all_text_contents())
        address = page.url
        assert "family=weight" in address
        page.goto("about:blank")
        page.goto(address)
        assert page.locator("tr[data-family]:visible").count() == 3
        assert page.get_by_label("Family").input_value() == "weight"
        assert troubles == []


# ---- the table of runs ----


def column(page, key: str) -> list[str]:
    keys = page.eval_on_selector_all("#runs thead th", "list => list.map(e => e.dataset.key)")
    return page.eval_on_selector_all("#runs tbody tr", f"list => list.map(e => e.cells[{keys.index(key)}].textContent)")


def test_runs_sort_and_filter_by_keyboard_alone(browser, site):
    with opened(browser) as (page, troubles):
        visit(page, site / "runs.html")
        button = page.locator('button[data-sort="clean"]')
        button.focus()
        page.keyboard.press("Enter")
        assert page.locator('th[data-key="clean"]').get_attribute("aria-sort") == "descending"
        values = [float(v) for v in column(page, "clean") if v != "–"]
        assert values == sorted(values, reverse=True)
        assert column(page, "clean")[-1] == "–"
        assert page.evaluate("document.activeElement.dataset.sort") == "clean"
        page.keyboard.press("Enter")
        assert page.locator('th[data-key="clean"]').get_attribute("aria-sort") == "ascending"
        values = [float(v) for v in column(page, "clean") if v != "–"]
        assert values == sorted(values)
        page.locator('details[data-key="method"] summary').focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert set(column(page, "method")) == {"bn"}
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert "method=bn" in page.url
        assert page.locator("#count").inner_text() == "11 of 46 runs"
        assert troubles == []


def test_an_address_brings_back_the_view(browser, site):
    with opened(browser) as (page, troubles):
        visit(page, site / "runs.html", "#method=gn~ws%2Bgn&batch=64&sort=-clean&columns=method~clean~trial")
        assert set(column(page, "method")) == {"gn", "ws+gn"}
        assert page.locator("#runs thead th").count() == 3
        first = page.locator("#runs").inner_text()
        address = page.url
        page.locator("#search").fill("resnet50")
        assert page.locator("#runs").inner_text() != first
        page.goto("about:blank")
        page.goto(address)
        assert page.locator("#runs").inner_text() == first
        page.locator("#reset").click()
        assert page.url.endswith("runs.html")
        assert page.locator("#count").inner_text() == "46 runs"
        assert troubles == []


def test_an_address_from_nowhere_does_no_harm(browser, site):
    with opened(browser) as (page, troubles):
        visit(page, site / "runs.html", "#method=nobody&sort=-none&columns=zzz&page=-3&q=%E0%A4%A&__proto__=x")
        assert page.locator("#runs thead th").count() > 3
        assert troubles == []


def test_hostile_names_survive_the_address(browser, hostile):
    from tests.site.conftest import HOSTILE

    with opened(browser) as (page, troubles):
        visit(page, hostile / "runs.html")
        for name in HOSTILE:
            page.locator("#reset").click()
            page.evaluate(
                """name => {
                    const boxes = [...document.querySelectorAll('details[data-key=method] input')];
                    boxes.find(b => b.value === name).click();
                }""",
                name,
            )
            address = page.url
            page.goto("about:blank")
            page.goto(address)
            assert (
                page.evaluate("[...document.querySelectorAll('#runs tbody td:first-child')].map(e => e.textContent)")
                == [name] * page.locator("#runs tbody tr").count()
            )
            assert page.locator("#runs tbody tr").count() >= 2
        assert troubles == []


def test_csv_is_the_view(browser, site):
    with opened(browser, accept_downloads=True) as (page, troubles):
        visit(page, site / "runs.html", "#batch=64&sort=-clean")
        with page.expect_download() as download:
            page.locator("#csv").click()
        rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        head = page.eval_on_selector_all("#runs thead button", "list => list.map(e => e.textContent)")
        body = page.eval_on_selector_all(
            "#runs tbody tr", "list => list.map(r => [...r.cells].map(c => c.textContent))"
        )
        assert rows[0] == head
        assert rows[1:] == [["" if c == "–" else c for c in row] for row in body]
        assert len(body) == 42
        assert troubles == []


# ---- compare ----


def compared(board: Board, *entries: Entry) -> str:
    """The address of a comparison: methods by their names."""
    names = "~".join(quote(e.label, safe="").replace("~", "%7E") for e in entries)
    return f"#board={board.slug}&methods={names}&metric=clean"


def test_the_verdicts_are_those_of_the_boards(browser, site):
    (board,) = boards(pq.read_table(site / "data" / "digits-resnet18-batch-64.parquet").to_pylist())
    checked = 0
    with opened(browser) as (page, troubles):
        visit(page, site / "compare.html", "#board=digits-resnet18-batch-64&methods=nobody~nothing")
        page.wait_for_selector("#result:visible")
        data = json.loads(
            (site / "compare" / "digits-resnet18-batch-64.js").read_text().partition(",")[2].removesuffix(");\n")
        )
        page.evaluate("data => { window.found = data; }", data)
        for a, b in itertools.permutations(board.entries, 2):
            made = page.evaluate(
                """([a, b, keys]) => {
                    const e = id => found.entries.find(x => x.id === id);
                    return keys.map(key => {
                        const c = NB.compare(found, e(a), e(b), found.metrics.find(m => m.key === key));
                        return [c.mean, c.low, c.high, c.p, c.verdict];
                    });
                }""",
                [a.id, b.id, [m.key for m in board.metrics]],
            )
            for metric, theirs in zip(board.metrics, made, strict=True):
                ours = compare(board, a, b, metric)
                expected = [
                    ours.mean,
                    *((ours.interval.low, ours.interval.high) if ours.interval else (None, None)),
                    ours.p,
                ]
                assert theirs[:4] == [None if v is None else pytest.approx(v, rel=1e-6, abs=1e-9) for v in expected]
                assert theirs[4] == ours.verdict
                checked += 1
        assert checked > 500
        reference = board.entries[0]
        for entry, comparison in against(board, reference, board.metrics[0]):
            visit(page, site / "compare.html", compared(board, reference, entry))
            page.wait_for_selector("#result:visible")
            # `against` is entry minus reference, the page first minus second
            turned = {"higher": "lower", "lower": "higher"}
            assert page.locator("#verdict").get_attribute("data-verdict") == turned.get(
                comparison.verdict, comparison.verdict
            )
        assert troubles == []


def test_comparing_by_keyboard_keeps_the_address(browser, site):
    with opened(browser) as (page, troubles):
        visit(page, site / "compare.html")
        page.wait_for_selector("#result:visible")
        page.locator("#b").focus()
        page.keyboard.press("End")
        address, text = page.url, page.locator("#result").inner_text()
        assert "#board=digits-resnet18-batch-64&methods=bn%20%C2%B7%20wd%200~ws%2Bgn%20%C2%B7%20wd%200.0005&" in address
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector("#result:visible")
        assert page.locator("#result").inner_text() == text
        assert troubles == []


def test_mcnemar_in_the_page_is_exact(browser, site):
    rows = pq.read_table(site / "data" / "digits-resnet18-batch-64.parquet").to_pylist()
    (board,) = boards(rows)
    a, b = sorted((e for e in board.entries if not e.failed), key=lambda e: e.label)[:2]
    bits = {r["trial_id"]: r["clean_outcomes"] for r in rows}
    of = {e.id: {run.seed: bits[run.trial_id] for run in e.runs} for e in (a, b)}
    with opened(browser) as (page, troubles):
        for first, second in ((a, b), (b, a)):
            visit(page, site / "compare.html", compared(board, first, second))
            page.wait_for_selector("#result:visible")
            shown = page.eval_on_selector_all(
                "#seeds tbody tr", "list => list.map(r => [...r.cells].map(c => c.textContent))"
            )
            seeds = sorted(of[first.id].keys() & of[second.id].keys())
            expected = [discordant(of[first.id][s], of[second.id][s]) for s in seeds]
            assert [(int(r[0]), int(r[4]), int(r[5])) for r in shown] == [
                (s, *only) for s, only in zip(seeds, expected, strict=True)
            ]
            assert [float(r[6]) for r in shown] == [pytest.approx(mcnemar(*only), abs=6e-4) for only in expected]
        assert troubles == []
