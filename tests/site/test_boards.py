"""Boards: what they say is so, and they can be read, sorted and compared on the screen."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from normbench.board import CLEAN, Board, Metric, boards
from normbench.pages.methods import methods
from normbench.pages.rank_charts import rank_table, sizes, stops
from normbench.pages.strips import MARGIN, WIDTH, scale_for, strip
from normbench.pages.tables import sentence, setting, setting_names, ties
from normbench.spec.trial import Trial
from normbench.store.schema import to_row

from tests.site import synthetic
from tests.site.test_browser import PHONE, opened, visit

#: Clean accuracy, robustness and growth of methods that lie apart, one of them far from all others.
APART = {
    "bn": (0.93, 0.55, 6.0),
    "gn": (0.92, 0.52, 3.5),
    "ln": (0.80, 0.60, 3.0),
    "in": (0.79, 0.40, 4.0),
    "wn": (0.78, 0.62, 1.3),
    "sn": (0.20, 0.10, 1.1),
}


def made(trials: Iterable[Trial], quality: dict[str, tuple[float, float, float]] | None = None) -> Board:
    of = quality or {}
    outcomes = ((t, synthetic.outcome(t, quality=of.get(t.norm_label))) for t in trials)
    (found,) = boards(to_row("demo", t, synthetic.identity(t), o) for t, o in outcomes)
    return found


@pytest.fixture(scope="module")
def board() -> Board:
    return made(synthetic.grid(APART, 3, [0]), APART)


@pytest.fixture(scope="module")
def single() -> Board:
    return made(synthetic.grid(APART, 1, [0]), APART)


# ---- ties ----


def test_below_a_line_all_are_surely_worse_than_the_first_above_it(board: Board) -> None:
    lines = 0
    for metric in (m for m in board.metrics if m.share):
        groups = ties(board, metric)
        assert list(groups) == [e.id for e in board.standings(metric)]
        assert list(groups.values()) == sorted(groups.values())
        by_id = {e.id: e for e in board.entries}
        for group in range(max(groups.values())):
            head = next(by_id[i] for i, g in groups.items() if g == group)
            for below in (by_id[i] for i, g in groups.items() if g > group):
                assert below.cells[metric.key].interval.high < head.cells[metric.key].interval.low
                lines += 1
    assert lines


def test_where_nothing_was_tested_no_line_stands(single: Board) -> None:
    assert all(set(ties(single, m).values()) == {0} for m in single.metrics)


# ---- sentences ----


def test_a_sentence_says_who_leads_and_how_sure_that_is(board: Board, single: Board) -> None:
    said = sentence(board, CLEAN)
    leading = len(board.tied_for_first(CLEAN))
    first = board.standings(CLEAN)[0]
    assert said.startswith(f"Highest clean accuracy: bn, {CLEAN.display(first.cells['clean'].value)} %. ")
    assert f"{leading} of 6 may be the best" in said
    assert sentence(single, CLEAN).endswith("No two methods have the 3 seeds that a comparison needs.")
    alone = made(synthetic.grid({k: APART[k] for k in ("bn", "sn")}, 3, [0]), APART)
    assert sentence(alone, CLEAN).endswith("No other of 2 may be the best.")
    growth = board.growth[0]
    assert re.fullmatch(r"Weights grow most with bn, [\d.]+ ×; least with sn, [\d.]+ ×\.", sentence(board, growth))


# ---- strips ----


def test_an_outlier_is_an_arrow_with_its_number_and_all_others_share_the_axis(board: Board) -> None:
    scale = scale_for(board, CLEAN)
    assert scale is not None
    assert scale.low > 0.5
    for entry in board.entries:
        cell = entry.cells["clean"]
        drawn = strip(cell, scale)
        if entry.norm == "sn":
            assert (drawn.beyond, drawn.number, drawn.low) == ("lower", CLEAN.display(cell.value), None)
            assert drawn.mean == pytest.approx(MARGIN)
        else:
            assert drawn.beyond == ""
            assert drawn.cut == ()
            assert all(MARGIN <= x <= WIDTH - MARGIN for x in (drawn.mean, drawn.low, drawn.high, *drawn.seeds))


def test_without_an_outlier_everything_is_on_the_axis(board: Board) -> None:
    for metric in board.metrics:
        scale = scale_for(board, metric)
        assert scale is not None
        for entry in board.entries:
            cell = entry.cells[metric.key]
            assert (strip(cell, scale).beyond != "") == (not scale.low <= cell.value <= scale.high)


# ---- columns ----


def test_the_rate_and_the_decay_are_columns_always(board: Board) -> None:
    assert setting_names(board) == ["lr", "wd"]
    assert {setting(e, "wd") for e in board.entries} == {"0"}
    several = made([synthetic.trial("bn", lr=0.1, clip_grad=1.0), synthetic.trial("gn", lr=0.3)])
    assert setting_names(several) == ["lr", "wd", "clip grad"]


def test_full_names() -> None:
    found = methods(made([synthetic.trial(n) for n in ("bn", "ws+gn", "nobody")]).entries)
    assert found["bn"].full == "Batch normalization"
    assert found["ws+gn"].full == "Weight standardization + Group normalization"
    assert found["nobody"].full == "nobody"
    assert all(m.full for m in found.values())


# ---- ranks by size ----


def robust(of: Board) -> list[Metric]:
    return [m for m in sizes(of) if m.size is not None]


def test_the_order_at_every_size_is_that_of_the_means(board: Board) -> None:
    found = stops(board, robust(board))
    assert set(found) == {e.id for e in board.entries}
    for i, metric in enumerate(robust(board)):
        places = sorted((own[i].place, e.cells[metric.key].value) for e in board.entries for own in [found[e.id]])
        assert [p for p, _ in places] == list(range(1, 7))
        assert all(a >= b for (_, a), (_, b) in itertools.pairwise(places))
        leading = {e.id for e in board.tied_for_first(metric)}
        assert {k for k, own in found.items() if own[i].leading} == leading


def test_the_table_of_ranks_names_the_size_that_the_board_is_ordered_by(board: Board, single: Board) -> None:
    table = rank_table(board)
    assert table is not None
    assert table.heads == ("clean", "1/255", "4/255")
    assert table.named == 1 + robust(board).index(board.headline("robust"))
    assert rank_table(single) is None, "there is nothing to rank"


# ---- pages ----


def rows(page: Path) -> list[str]:
    return re.findall(r'<tr class="f-.*?</tr>', page.read_text(encoding="utf-8"), re.S)


def test_every_row_has_an_address_and_its_full_name(site: Path) -> None:
    ids = [re.search(r' id="([^"]+)"', row)[1] for row in rows(site / "accuracy.html")]
    assert "digits-resnet18-batch-64--bn-wd-0-0005" in ids
    assert len(ids) == len(set(ids))
    text = html.unescape((site / "accuracy.html").read_text())
    assert "Weight standardization + Group normalization" in text
    assert "accuracy.html#digits-resnet18-batch-64--bn-wd-0-0005" in (site / "methods" / "bn.html").read_text()


def test_no_rank_is_bold_without_an_interval(site: Path, lonely: Path, tuned: Path) -> None:
    bold = 0
    for folder in (site, lonely, tuned):
        for page in (*folder.glob("accuracy*.html"), *folder.glob("robustness*.html")):
            for row in rows(page):
                if re.match(r'<tr class="[^"]* first"', row):
                    bold += 1
                    assert 'class="bar"' in row or 'class="arrow"' in row
    assert bold
    assert not any(" first" in row.partition(">")[0] for row in rows(lonely / "accuracy.html"))


def test_the_head_says_what_intervals_leave_out(site: Path) -> None:
    for name in ("accuracy", "robustness"):
        head = "".join(re.findall(r"<thead>.*?</thead>", (site / f"{name}.html").read_text(), re.S))
        assert "Interval over seeds<small>not over other test images</small>" in head
    assert "Learning rate" in head
    assert "Weight decay" in head


# ---- in the browser ----

#: The board with ranks; the page has another one.
RANKED = "#digits-resnet18-batch-64"


def names(page) -> list[str]:
    return page.eval_on_selector_all(f"{RANKED} .boards tbody tr", "list => list.map(r => r.dataset.name)")


def test_a_board_sorts_by_any_column_and_keeps_its_ties(browser, site: Path) -> None:
    with opened(browser) as (page, troubles):
        visit(page, site / "robustness.html")
        by_rank = names(page)
        heads = page.locator(f"{RANKED} .boards thead th[aria-sort]")
        assert heads.nth(0).get_attribute("aria-sort") == "ascending"
        assert heads.count() > 8
        for i in range(heads.count()):
            heads.nth(i).locator("button").click()
            assert sorted(names(page)) == sorted(by_rank)
            sorted_by = page.locator(f'{RANKED} th[aria-sort="ascending"], {RANKED} th[aria-sort="descending"]')
            assert sorted_by.count() == 1
        first = page.locator(f"{RANKED} thead th.rank button")
        first.click()
        assert names(page) == by_rank
        size = page.locator(f"{RANKED} th.size").last
        size.locator("button").press("Enter")
        assert size.get_attribute("aria-sort") == "descending"
        cells = page.eval_on_selector_all(
            f"{RANKED} .boards tbody tr",
            "list => list.map(r => [r.cells[r.cells.length - 1].dataset.v, r.cells[r.cells.length - 1].dataset.tie,"
            " r.classList.contains('starts')])",
        )
        assert names(page)[-1] == "sn · wd 0.0005", "what failed stays last"
        values = [float(v) for v, _, _ in cells if v is not None]
        assert values == sorted(values, reverse=True)
        assert [a[1] != b[1] for a, b in itertools.pairwise(cells)] == [starts for _, _, starts in cells[1:]]
        assert troubles == []


def test_ticked_methods_open_their_comparison_which_keeps_them_on_another_board(browser, site: Path) -> None:
    with opened(browser) as (page, troubles):
        visit(page, site / "accuracy.html")
        assert page.locator(RANKED).get_by_text("Tick two or more methods").count() == 1
        for name in ("ws+gn · wd 0", "bn · wd 0.0005", "gn · wd 0"):
            page.get_by_label(f"Compare {name}", exact=True).check()
        page.get_by_role("link", name="Compare the 3 ticked").click()
        page.wait_for_selector("#result:visible")
        assert "methods=ws%2Bgn%20%C2%B7%20wd%200~bn%20%C2%B7%20wd%200.0005~gn%20%C2%B7%20wd%200&" in page.url
        assert page.locator("#pair").inner_text() == "ws+gn · wd 0 and bn · wd 0.0005, clean accuracy"
        assert page.locator("#pairs tbody tr").count() == 3
        page.get_by_label("Board").select_option(label="cifar10-jpeg · resnet50 · batch 64")
        page.locator("#missing", has_text="ws+gn · wd 0 is not on this board.").wait_for()  # numbers come in a file
        assert page.locator("#pair").inner_text().startswith("bn and gn, ")
        page.get_by_label("Board").select_option(label="digits · resnet18 · batch 64")
        assert page.locator("#pair").inner_text() == "ws+gn · wd 0 and bn · wd 0.0005, clean accuracy"
        assert troubles == []


@pytest.mark.parametrize("viewport", [{"width": 900, "height": 500}, PHONE], ids=["desk", "phone"])
def test_head_and_names_stay_on_the_screen(browser, site: Path, viewport: dict[str, int]) -> None:
    with opened(browser, viewport=viewport) as (page, troubles):
        visit(page, site / "robustness.html")
        box = "e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; }"
        frame = page.locator(f"{RANKED} .table.boards")
        frame.evaluate("e => { e.scrollIntoView(); e.scrollTop = 400; e.scrollLeft = 300; }")
        page.wait_for_timeout(50)
        top = max(0, frame.evaluate(box)[1])
        assert frame.locator("thead").evaluate(box)[1] == pytest.approx(top, abs=2)
        left = frame.evaluate(box)[0]
        row = frame.locator("tbody th[scope=row]").nth(5)
        assert row.evaluate(box)[0] - left < 60
        if viewport is PHONE:
            frame.evaluate("e => { e.scrollTop = 0; e.scrollLeft = 0; }")
            drawn = frame.locator("svg.interval").first.evaluate(box)
            assert 0 <= drawn[0] < drawn[2] <= viewport["width"], "the interval is on the screen of a phone"
        assert troubles == []
