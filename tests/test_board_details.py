"""Details of boards and comparisons in which a small fault would change what is reported: ends, ties, order, units."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from normbench.board import (
    CLEAN,
    UNDECIDED,
    Cell,
    Comparison,
    Interval,
    Metric,
    Point,
    against,
    boards,
    compare,
    each_other,
    growth,
    ranks,
    t_interval,
    wilson,
)
from normbench.board.reading import AUDITED, absent, audited, rows_of
from normbench.board.types import why_not, why_not_compared
from normbench.spec.outcome import Status
from normbench.spec.robustness import WORST_CASE
from normbench.store.schema import SCHEMA, to_row

from tests.board.test_worst_case import attacked
from tests.site import synthetic
from tests.site.synthetic import rows
from tests.test_board import fixed


def curve(values, measure="weight-norm.raw", layer=""):
    return [{"step": s, "epoch": s, "measure": measure, "layer": layer, "value": v} for s, v in enumerate(values)]


def test_a_board_shows_growth_as_end_over_start():
    trial = synthetic.trial()
    row = to_row("demo", trial, synthetic.identity(trial), synthetic.outcome(trial)) | {
        "curves": curve([2.0, 3.0, 5.0])
    }
    (board,) = boards([row])
    assert board.entries[0].cells["growth:weight-norm.raw"].value == 2.5


@pytest.mark.parametrize(
    "values", [[3.0], [0.0, 3.0], [None, 3.0], [3.0, None], [math.inf, 3.0], [3.0, math.nan], [3.0, math.inf]]
)
def test_no_growth_without_two_finite_ends(values):
    assert growth(curve(values)) == {}
    assert growth(curve([1.0, 2.0], "train.loss")) == growth(curve([1.0, 2.0], layer="conv")) == {}


def test_growth_to_zero_is_growth():
    assert growth(curve([2.0, 0.0])) == {"weight-norm.raw": (2.0, 0.0)}


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "cifar10"},
        {"image_column": "x"},
        {"label_column": "y"},
        {"test_split": "val"},
        {"test_examples": 100},
        {"image_size": 8},
    ],
)
def test_what_networks_are_tested_on_separates_boards(other):
    """And what they are trained on does not."""
    trial = synthetic.trial()

    def with_data(**data):
        return trial.model_copy(update={"data": trial.data.model_copy(update=data)})

    assert len(boards(rows([trial, with_data(**other)]))) == 2
    assert len(boards(rows([trial, with_data(train_examples=100)]))) == 1


def test_what_failed_early_stands_with_most_of_its_kind():
    trials = list(synthetic.grid(["bn"], seeds=6, weight_decays=[0]))
    for few, many in (("a", "b"), ("b", "a")):
        content = {0: few, 1: many, 2: many, 3: many, 4: few, 5: None}
        made = boards(
            to_row("demo", t, synthetic.identity(t) | {"data": content[t.seed]}, synthetic.outcome(t)) for t in trials
        )
        assert sorted([r.seed for r in b.entries[0].runs] for b in made) == [[0, 4], [1, 2, 3, 5]]


def test_values_that_differ_by_little_have_an_interval_and_rounding_has_none():
    assert t_interval([0.5, 0.5 + 1e-9, 0.5 - 1e-9]) is not None
    assert t_interval([0.5, 0.5005, 0.4995]).covers == "seeds"
    assert t_interval([0.1 + 0.2, 0.3, 0.3]) is None
    assert t_interval([1e6, 1e6 + 1e-7, 1e6]) is None, "rounding grows with the mean"


def test_wilson_by_hand_at_both_ends():
    z = scipy.stats.norm.ppf(0.975)
    assert (wilson(0, 10).low, wilson(10, 10).high) == (0.0, 1.0)
    assert wilson(0, 10).high == pytest.approx(z * z / (10 + z * z))
    assert wilson(10, 10).low == pytest.approx(10 / (10 + z * z))
    assert wilson(5, 10).covers == "test images"
    for total in range(1, 200):  # whatever the rounding
        assert (wilson(0, total).low, wilson(total, total).high) == (0.0, 1.0)


def test_intervals_that_touch_are_tied():
    low, high = Interval(0, 1, "seeds"), Interval(1, 2, "seeds")
    assert [(r.best, r.worst, r.of, r.text) for r in ranks([low, high])] == [(1, 2, 2, "1–2"), (1, 2, 2, "1–2")]
    assert [r.text for r in ranks([low, Interval(1.5, 2, "seeds")])] == ["2", "1"]
    assert high.half == 0.5
    assert low.overlaps(high)
    assert high.overlaps(low)


def test_the_first_are_those_whom_nobody_surely_surpasses():
    right = {"bn": 150, "gn": 250, "ln": 252, "in": 0}
    moved = {"bn": (0, 4, 1), "gn": (3, 0, 2), "ln": (0, 1, 4), "in": (2, 3, 0), "none": (48,)}
    trials = [*synthetic.grid(right, seeds=3, weight_decays=[0]), synthetic.trial("none")]
    made = rows(trials, lambda t: fixed(t, right.get(t.norm_label, 250) + moved[t.norm_label][t.seed], 300))
    (board,) = boards(made)
    assert [(e.norm, r and r.text) for e in board.standings(CLEAN) for r in [board.rank(e, CLEAN)]] == [
        ("none", None),
        ("ln", "1–2"),
        ("gn", "1–2"),
        ("bn", "3"),
        ("in", "4"),
    ]
    assert [e.norm for e in board.tied_for_first(CLEAN)] == ["ln", "gn"]


@pytest.mark.parametrize("seeds", [2, 3])
def test_agreement_of_the_only_entry_says_nothing(seeds):
    (board,) = boards(rows(synthetic.grid(["bn"], seeds=seeds, weight_decays=[0]), lambda t: fixed(t, 150, 300)))
    cell = board.entries[0].cells["clean"]
    assert (cell.value, cell.interval, board.rank(board.entries[0], CLEAN)) == (0.5, None, None)


def test_metrics_stand_in_the_order_in_which_they_are_read():
    right = np.arange(40) < 20
    given = [
        ("noise", "noise", 0.1, right),
        ("pgd-l2", "l2", 0.5, right),
        ("bim", "linf", 2 / 255, right),
        ("bim", "linf", 1 / 255, right),
        ("square", "linf", 2 / 255, right),
    ]
    assert [m.key.partition("@")[0] for m in attacked(given).metrics] == [
        "clean",
        "bim",
        "bim",
        "pgd-l2",
        "square",
        "noise",
        "worst-linf",
    ]
    assert [m.size for m in attacked(given).metrics[1:3]] == [1 / 255, 2 / 255]


@pytest.mark.parametrize(
    ("group", "value", "text", "unit"), [("clean", 0.98123, "98.12", "%"), ("weight-norm", 3.1416, "3.14", "×")]
)
def test_numbers_are_shown_in_their_unit(group, value, text, unit):
    metric = Metric("key", group, "label")
    assert (metric.display(value), metric.display(None), metric.unit) == (text, "–", unit)


def test_a_cell_says_how_sure_it_is():
    point = Point(0, "t", 0.5)
    assert Cell(CLEAN, 0.5, None, (point,)).covers == "not tested: 1 seed, 3 needed"
    assert Cell(CLEAN, 0.5, None, (point,) * 2).covers == "not tested: 2 seeds, 3 needed"
    assert Cell(CLEAN, 0.5, None, (point,) * 3).covers == "not tested: no seed differs from another"
    assert Cell(CLEAN, 0.5, Interval(0.4, 0.6, "seeds"), (point,) * 3).display == "50.00 ± 10.00"
    assert Cell(CLEAN, 0.99, Interval(0.9, 1.0, "seeds"), (point,) * 3).display == "99.00 ± 9.00", "the longer half"
    assert Cell(CLEAN, 1.0, Interval(0.9, 1.0, "comparison"), (point,) * 3).display == "100.00 [90.00, 100.00]"
    alone = Interval(0.4, 0.6, "seeds")
    assert Cell(CLEAN, 0.5, alone, (point,) * 3, alone=alone).covers == (
        "95 % t-interval of the mean itself 40.00 to 60.00 %, 3 seeds"
    )
    assert Cell(CLEAN, 0.5, Interval(0.3, 0.7, "comparison"), (point,) * 3, alone=alone).covers == (
        "3 seeds; told apart from methods whose interval does not overlap, 95 % sure over the board; "
        "95 % t-interval of the mean itself 40.00 to 60.00 %"
    )


def test_a_board_is_more_prominent_with_intervals_and_then_with_more_trials():
    def prominence(seeds, norms=("bn",)):
        (board,) = boards(rows(synthetic.grid(norms, seeds=seeds, weight_decays=[0])))
        return board.prominence

    assert prominence(2)[1:] == (False, 2)
    assert prominence(3)[1:] == (True, 3)
    assert prominence(2, ("bn", "gn", "ln")) < prominence(3)


# ---- rows ----


@pytest.mark.parametrize("batch", [1, 4, 6, 2000])
def test_rows_are_read_in_batches_without_what_boards_do_not_read(batch, monkeypatch):
    trials = list(synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]))
    plain = rows(trials, lambda t: synthetic.failure(t) if t.seed == 2 else synthetic.outcome(t))
    plain[0]["curves"], plain[2]["curves"], plain[5]["audit"] = [], curve([2.0, 3.0]), None
    known = {"scale_invariant": ["a"], "weights": 3, "parameters_before": 7, "parameters_after": 9}
    plain[1]["audit"] = json.dumps(known)
    plain[1]["provenance"] = json.dumps({"statistics_absent": {"batch": "too few images"}})
    plain[3]["curves"] = [*plain[3]["curves"], *curve([1.0, 9.0], layer="conv"), *curve([1.0], "train.loss")]
    plain[4]["curves"] = None
    table = pa.Table.from_pylist(plain, schema=SCHEMA)
    monkeypatch.setattr("normbench.board.reading.BATCH", batch)
    found = list(rows_of(table))
    long = {"clean_outcomes", "robustness", "log", "audit", "provenance"}
    for row, own in zip(found, plain, strict=True):
        assert row.keys() == own.keys() - long | {*AUDITED, "absent"}
        kept = [r for r in own["curves"] or [] if r["layer"] == "" and r["measure"].startswith("weight-norm.")]
        assert [(r["measure"], r["step"], r["value"]) for r in row["curves"]] == [
            (r["measure"], r["step"], r["value"]) for r in kept
        ]
        assert {k: row[k] for k in AUDITED} == audited(own["audit"])
        assert row["absent"] == absent(own["provenance"])
    assert found[1]["absent"] == {"batch": "too few images"}
    assert [found[1][k] for k in AUDITED] == ["1 of 3", 3, [7, 9]]
    assert [found[5][k] for k in AUDITED] == ["", None, None]
    assert boards(found) == boards(plain)
    assert list(rows_of(table.drop_columns(["robustness", "log"]))) == found
    without = pa.Table.from_pylist([row | {"curves": []} for row in plain], schema=SCHEMA)
    assert all(row["curves"] == [] for row in rows_of(without))


# ---- comparisons ----


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "higher"), (-0.3, -0.1, "lower"), (-0.1, 0.1, UNDECIDED), (0, 0.1, UNDECIDED), (-0.1, 0, UNDECIDED)],
)
def test_a_verdict_is_which_side_of_zero_the_interval_lies_on(low, high, verdict):
    made = Comparison(CLEAN, (), (low + high) / 2, Interval(low, high, "comparison"))
    assert made.verdict == verdict
    assert made.turned.verdict == {"higher": "lower", "lower": "higher"}.get(verdict, verdict)
    assert made.turned.turned == made
    assert replace(made, why="diverged").verdict == "diverged"
    assert Comparison(CLEAN, (), 0.2, None).verdict == UNDECIDED


def test_each_pair_is_compared_once_and_against_a_reference_it_is_minus_that():
    (board,) = boards(rows(synthetic.grid(["bn", "gn", "ln", "in"], seeds=5, weight_decays=[0])))
    made = each_other(board, CLEAN)
    assert len(made) == 6
    for reference in board.entries:
        compared = against(board, reference, CLEAN)
        assert [e.id for e, _ in compared] == [e.id for e in board.standings(CLEAN) if e is not reference]
        for entry, found in compared:
            other = made.get((entry.id, reference.id)) or made[reference.id, entry.id].turned
            assert (found.mean, found.verdict) == (pytest.approx(other.mean), other.verdict)
            assert found.mean == pytest.approx(entry.cells["clean"].value - reference.cells["clean"].value)
            assert found.p == other.p


def test_how_trials_ended_is_told_before_how_few_there_are():
    trials = [*synthetic.grid(["bn", "gn"], seeds=2, weight_decays=[0]), *synthetic.grid(["ln"], seeds=3)]
    trials += [synthetic.trial("none"), synthetic.trial("wn")]
    ends = {"none": Status.TIMED_OUT, "wn": Status.DIVERGED}
    (board,) = boards(
        rows(
            trials, lambda t: synthetic.failure(t, s) if (s := ends.get(t.norm_label)) else fixed(t, 100 + t.seed, 300)
        )
    )
    entries = {e.norm: e for e in board.entries}
    for one, other, why in (
        ("bn", "none", "timed out"),
        ("bn", "ln", "not tested: 2 seeds, 3 needed"),
        ("none", "wn", "diverged"),
        ("ln", "ln", ""),
    ):
        for a, b in ((one, other), (other, one)):
            made = compare(board, entries[a], entries[b], CLEAN)
            assert (made.why, why_not_compared(entries[a], entries[b], CLEAN)) == (why, why)
            assert made.metric is CLEAN
    assert compare(board, entries["bn"], entries["gn"], CLEAN).mean == 0


def test_an_entry_without_a_metric_says_how_its_trials_ended():
    """Of `gn` one trial diverged and the other was not attacked; no trial of `ln` was."""

    def outcome(trial):
        if (trial.norm_label, trial.seed) == ("gn", 1):
            return synthetic.failure(trial)
        return synthetic.outcome(trial) if trial.norm_label == "bn" else fixed(trial, 100, 300)

    (board,) = boards(rows(synthetic.grid(["bn", "gn", "ln"], seeds=2, weight_decays=[0]), outcome))
    said = {e.norm: why_not(e, board.of("robust")[0]) for e in board.entries}
    assert said == {"bn": "not tested: 2 seeds, 3 needed", "gn": "1 of 2 diverged", "ln": "not measured"}


def test_the_worst_case_in_the_first_norm_stands_in_front():
    right = np.arange(40) < 20
    given = [(f"{name}-{ball}", ball, 0.1, right) for ball in ("l1", "l2", "linf") for name in ("a", "b")]
    for left, ball in ((given, "linf"), (given[:4], "l2"), (given[:2], "l1")):
        headline = attacked(left).headline("robust")
        assert (headline.attack, headline.threat) == (WORST_CASE, ball)


def test_a_comparison_is_that_of_the_boards_intervals():
    trials = [*synthetic.grid(["bn", "gn", "ln"], seeds=3, weight_decays=[0]), synthetic.trial("wn")]
    (board,) = boards(rows(trials))
    a, b = board.entries[:2]
    made, (x, y) = compare(board, a, b, CLEAN), (e.cells["clean"].standing.interval for e in (a, b))
    assert made.interval == Interval(x.low - y.high, x.high - y.low, "comparison")
    assert made.methods == 3
    (alone,) = (e for e in board.entries if e.norm == "wn")
    value = alone.cells["clean"].value
    assert compare(board, alone, a, CLEAN).mean == pytest.approx(value - a.cells["clean"].value)


def test_a_failed_run_is_in_no_pair():
    trials = list(synthetic.grid(["bn", "gn"], seeds=4, weight_decays=[0]))
    made = rows(trials, lambda t: synthetic.failure(t) if (t.norm_label, t.seed) == ("gn", 1) else synthetic.outcome(t))
    (board,) = boards(made)
    found = compare(board, *board.entries, CLEAN)
    assert [p.seed for p in found.pairs] == [0, 2, 3]
    assert found.why == ""
    values = {(r["norm"], r["seed"]): r["clean_accuracy"] for r in made}
    assert [(p.a, p.b) for p in found.pairs] == [(values["bn", s], values["gn", s]) for s in (0, 2, 3)]
