"""Batch against width: planted effects are found, noise is not, and too little data is said to be too little."""

from __future__ import annotations

import json

import numpy as np
import pytest
from normbench.studies import evidence
from normbench.studies._grid import grids, peak, read
from normbench.studies._stats import resample
from normbench.studies.base import Cell
from normbench.studies.batch_width import BatchWidth, equals, follows

from tests.studies.planted import grid_rows, hump, row


def section(rows):
    (found,) = BatchWidth().sections(evidence(rows))
    return found


def clean(record):
    return record.run.values.get("clean")


def readings(rows, sense="first"):
    return [read(g, resample(g.values(clean)), sense) for g in grids(evidence(rows).records)]


MATCHING = hump(lambda channels: channels, 0.01)


def test_a_best_batch_that_follows_the_width_is_found():
    (found,) = readings(grid_rows(MATCHING))
    assert found.slope.value == pytest.approx(1, abs=0.15)
    assert found.slope.holds(1)
    assert not found.slope.holds(0)
    # One octave off costs 1 point; the swapped batches are 1 to 3 octaves off: (1 + 4 + 9) + (1 + 1 + 4) + ... over 4 x
    # 3.
    assert found.neighbours.value == pytest.approx(0.01, abs=0.003)
    assert found.neighbours.above_zero
    assert found.matched.value == pytest.approx(0.01 * 40 / 12, abs=0.005)
    assert found.offset.value == pytest.approx(0, abs=0.15)
    made = section(grid_rows(MATCHING))
    assert made.verdict == "yes"
    assert "bn: the best batch grows with the width, it equals the width (" in made.answer
    assert "slope 1.0" in made.answer or "slope 0.9" in made.answer
    assert [str(getattr(c, "text", c)) for c in made.tables[0].rows[0][-2:]] == ["yes", "yes"]


#: The best batch as a function of the width, within the grid: whether it grows, and whether it is the width.
TRUTHS = {
    "none": (lambda channels: 45, "no", "no"),
    "root": (lambda channels: 6 * channels**0.5, "yes", "no"),
    "width": (lambda channels: channels, "yes", "yes"),
    "double": (lambda channels: 2 * channels, "yes", "no"),
    "a quarter": (lambda channels: channels / 4, "yes", "no"),
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_to_follow_is_not_to_equal(truth):
    peak, grows, is_width = TRUTHS[truth]
    rows = grid_rows(hump(peak, 0.01), noise=0.002, batches=[2**k for k in range(1, 10)])
    (found,) = readings(rows)
    assert (follows(found), equals(found)) == (grows, is_width)
    assert section(rows).verdict == is_width


def test_a_parabola_says_where_between_two_batches_the_best_one_is():
    x = np.array([2.0, 3.0, 4.5, 5.0, 6.0])
    y = np.array([[-((v - top) ** 2) for v in x] for top in (3.2, 4.0, 4.9, 1.0, 9.0)])
    assert peak(x, y) == pytest.approx([3.2, 4.0, 4.9, 2.0, 6.0])
    assert peak(x, np.zeros(5)) == 2.0
    assert peak(x, np.array([0, 1.0, 1.0, 1.0, 0])) == pytest.approx(3.5, abs=0.51)
    y[0, 4] = np.nan
    assert np.isnan(peak(x, y)).tolist() == [True, False, False, False, False]


def test_one_best_batch_for_all_widths_is_no_though_it_stands_out_against_its_neighbours():
    rows = grid_rows(hump(lambda channels: 40, 0.01))
    (found,) = readings(rows)
    assert found.neighbours.above_zero
    assert found.matched.holds(0)
    assert found.slope.holds(0)
    assert not found.slope.holds(1)
    assert section(rows).verdict == "no"


def test_an_effect_of_batch_and_width_each_by_itself_is_none_of_their_match():
    (found,) = readings(
        grid_rows(lambda n, channels, w, b: 0.8 + 0.01 * np.log2(b) + 0.02 * np.log2(channels), noise=0.001)
    )
    assert found.matched.value == pytest.approx(0, abs=0.001)
    assert found.matched.holds(0)


def test_noise_is_called_a_match_no_more_often_than_promised():
    repeats = 150
    flat = hump(lambda channels: channels, 0.0)
    made = [readings(grid_rows(flat, draw=i))[0] for i in range(repeats)]
    for contrast in ("neighbours", "matched"):
        rate = np.mean([not getattr(m, contrast).holds(0) for m in made])
        assert 0.0 <= rate <= 0.11, (contrast, rate)
    assert np.mean([not m.slope.holds(0) for m in made]) <= 0.11
    for answer in (follows, equals):
        verdicts = [answer(m) for m in made]
        assert verdicts.count("yes") <= 0.03 * repeats
        assert verdicts.count("no") <= 0.09 * repeats


def test_a_best_batch_at_the_end_of_the_grid_decides_nothing():
    made = section(grid_rows(lambda n, c, w, b: 0.9 - 0.01 * np.log2(b), noise=0.001))
    assert made.verdict == "cannot be told"
    assert "at an end of the grid" in made.answer


@pytest.mark.parametrize(
    ("kept", "why"),
    [({"seeds": 1}, "1 seed, 3 needed"), ({"seeds": 2}, "2 seeds, 3 needed"), ({"widths": (0.5, 1.0)}, "2 widths, 3")],
)
def test_what_is_too_little_is_not_tested_and_says_so(kept, why):
    made = section(grid_rows(MATCHING, **kept))
    assert made.verdict == "not tested"
    assert f"bn: not tested: {why}" in made.answer
    assert f"not tested: {why}" in str(made.tables[0].rows[0][-1])
    assert ("no interval" in made.answer) == ("seeds" in kept)


def test_a_lost_seed_takes_no_answer_away():
    rows = grid_rows(MATCHING)
    gone = {(0.5, 8): (1, 2), (1.0, 64): (1,)}
    kept = [r for r in rows if r["seed"] not in gone.get(_place(r), ())]
    assert len(kept) == len(rows) - 3
    made = section(kept)
    assert made.verdict == "yes"
    assert any("Some cells have one seed" in n for n in made.notes)


def _place(row):
    spec = json.loads(row["spec"])
    return spec["model"]["width"], spec["batch_size"]


def test_while_the_spread_of_some_cells_is_unknown_nothing_is_refuted():
    fixed = grid_rows(hump(lambda channels: 40, 0.01))
    assert section(fixed).verdict == "no"
    (found,) = readings([r for r in fixed if r["seed"] == 0 or json.loads(r["spec"])["batch_size"] == 8])
    assert found.slope.low is None
    assert {follows(found), equals(found)} == {"cannot be told"}


def test_a_grid_without_a_matching_batch_says_so():
    made = section(grid_rows(MATCHING, batches=(1024, 2048, 4096)))
    assert made.verdict == "cannot be told"
    assert "at an end of the grid" in made.answer or "no matching batch" in made.answer


def test_failures_are_shown_and_take_nothing_else_down():
    lost = [("bn", 0.25, 256), ("bn", 2.0, 8)]
    made = section(grid_rows(MATCHING, lost=lost))
    assert made.verdict == "yes"
    table = next(t for t in made.tables if t.title.startswith("Trials without a number"))
    assert table.title.endswith("6")
    assert {(r[1], r[2]) for r in table.rows} == {("×0.25", "256"), ("×2", "8")}
    assert all(
        isinstance(r[-1], Cell) and r[-1].failed and r[-1].trials and "non-finite" in r[-1].note for r in table.rows
    )
    marks = [
        d["text"]
        for panel in made.figures[0].spec["vconcat"][0]["hconcat"]
        for layer in panel["layer"]
        for d in layer["data"]["values"]
        if "text" in d
    ]
    assert "failed" in marks


def test_the_norms_batch_makes_a_design_of_its_own():
    """SGD's batch is fixed: ghost batches of 8 to 128 and batch norm of the whole 256 are one line, whose best follows
    the width.
    """
    rows = []
    rng = np.random.default_rng(0)
    for width in (0.25, 0.5, 1.0, 2.0):
        for size in (8, 16, 32, 64, 128, 256):
            norm = "bn" if size == 256 else f"ghost-bn[size={size}]"
            value = MATCHING("", round(64 * width), width, size)
            rows += [row(norm, s, value + 0.003 * float(rng.normal()), width=width, batch_size=256) for s in range(3)]
    (grid,) = grids(evidence(rows).records)
    assert (grid.design, grid.batches) == ("norm", [8, 16, 32, 64, 128, 256])
    assert section(rows).verdict == "yes"


def test_a_rate_tuned_for_each_ghost_batch_leaves_one_design():
    rows = [
        row(
            "bn" if size == 64 else f"ghost-bn[size={size}]",
            s,
            0.9 + 0.001 * s,
            width=width,
            batch_size=64,
            lr=0.1 / size,
        )
        for width in (0.5, 1.0)
        for size in (16, 32, 64)
        for s in range(3)
    ]
    (grid,) = grids(evidence(rows).records)
    assert (grid.design, grid.batches, len(grid.records)) == ("norm", [16, 32, 64], 18)
    assert any(t.title == "Learning rate of each cell" for t in section(rows).tables)


def test_of_several_learning_rates_the_one_with_the_best_held_out_accuracy_is_taken():
    rows = []
    for width in (0.5, 1.0):
        for batch in (16, 32, 64):
            for seed in range(3):
                for lr, held_out, value in ((0.01, 0.8, 0.7), (0.1, 0.9, 0.6)):
                    rows.append(row("bn", seed, value, validation=held_out, lr=lr, width=width, batch_size=batch))
    (grid,) = grids(evidence(rows).records)
    assert {r.spec["train"]["lr"] for r in grid.records} == {0.1}
    without = [r | {"validation_accuracy": None} for r in rows]
    assert [g.label for g in grids(evidence(without).records)] == ["bn · lr 0.01", "bn · lr 0.1"]


def test_candidates_of_a_search_are_left_out():
    rows = grid_rows(MATCHING)
    candidates = [r | {"trial_id": f"{i:016x}", "stage": "tuning", "clean_accuracy": 0.0} for i, r in enumerate(rows)]
    assert section(rows).answer == section(rows + candidates).answer


def test_methods_without_statistics_of_the_batch_are_controls_and_decide_nothing():
    made = section(
        grid_rows(
            lambda n, c, w, b: (MATCHING if n == "bn" else hump(lambda _: 40, 0.01))(n, c, w, b), norms=("bn", "gn")
        )
    )
    assert made.verdict == "yes"
    assert "gn" not in made.answer
    assert any("control" in c.note for c in (r[0] for r in made.tables[0].rows) if isinstance(c, Cell))


def test_a_control_that_matches_as_well_says_that_it_is_not_the_norm():
    assert "not the norm's doing" in section(grid_rows(MATCHING, norms=("bn", "gn"))).answer
    ghost = section(grid_rows(MATCHING, norms=("bn", "ghost-bn[size=8]")))
    assert "ghost-bn[size=8] too" in ghost.answer
    assert "not the norm's doing" not in section(grid_rows(MATCHING)).answer


def test_the_same_rows_in_another_order_give_the_same_study():
    rows = grid_rows(MATCHING)
    assert section(rows) == section(rows[::-1])


def test_a_suite_of_another_shape_is_not_asked():
    assert not BatchWidth().fits(evidence(grid_rows(MATCHING, widths=(1.0,))))
    assert not BatchWidth().fits(evidence(grid_rows(MATCHING, batches=(16, 32))))
    assert not BatchWidth().fits(evidence([]))
