"""Home and claims in a real browser: filters with and without a script, and labels that do not meet."""

from __future__ import annotations

import itertools

import pytest

from tests.site.test_browser import DESK, PHONE, opened, visit

VISIBLE = (
    "[...document.querySelectorAll('.claim')].filter(e => e.offsetParent).map(e => e.className.split(' ').slice(1))"
)
#: Boxes of the texts in a chart, in pixels.
LABELS = """() => [...document.querySelectorAll('figure .plot > svg')].map(svg =>
    [...svg.querySelectorAll('text')].filter(t => t.textContent.trim()).map(t => {
        const r = t.getBoundingClientRect();
        return [t.textContent, r.left, r.top, r.right, r.bottom];
    }))"""


@pytest.mark.parametrize("chosen", ["refuted", "holds", "sun", "cai"])
def test_a_chip_filters_claims_without_a_script(browser, site, chosen) -> None:
    with opened(browser, java_script_enabled=False) as (page, _):
        visit(page, site / "claims.html")
        total = page.locator(".claim").count()
        page.locator(f'a[href="#only-{chosen}"]').click()
        shown = page.locator(".claim:visible")
        kinds = [set(c.get_attribute("class").split()) for c in shown.all()]
        assert 0 < len(kinds) < total
        assert all({f"is-{chosen}", f"of-{chosen}"} & kind for kind in kinds)
        assert page.locator("section.theme:visible").count() <= len(kinds)


def test_verdict_and_source_go_together_with_the_script(browser, site) -> None:
    with opened(browser) as (page, troubles):
        visit(page, site / "claims.html", "#only-holds")
        assert all("is-holds" in kind for kind in page.evaluate(VISIBLE))
        page.locator('[data-source="yuan"]').click()
        kinds = page.evaluate(VISIBLE)
        assert kinds
        assert all({"is-holds", "of-yuan"} <= set(kind) for kind in kinds)
        assert page.locator("#claims-shown").inner_text().startswith(f"Showing {len(kinds)} of ")
        assert page.evaluate("location.hash") == "#only-holds&only-yuan"
        page.reload()
        assert page.evaluate(VISIBLE) == kinds
        page.locator('[data-verdict="holds"]').click()
        assert {"of-yuan"} < {c for kind in page.evaluate(VISIBLE) for c in kind}
        page.locator("[data-all]").click()
        assert len(page.evaluate(VISIBLE)) == page.locator(".claim").count()
        assert troubles == []


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_labels_of_the_first_chart_meet_no_other_text(browser, site, viewport) -> None:
    with opened(browser, viewport=viewport) as (page, _):
        visit(page, site / "index.html")
        charts = page.evaluate(LABELS)
        assert charts
        for texts in charts:
            assert len(texts) > 5
            for a, b in itertools.combinations(texts, 2):
                apart = a[3] <= b[1] + 1 or b[3] <= a[1] + 1 or a[4] <= b[2] + 1 or b[4] <= a[2] + 1
                assert apart, (a, b)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
