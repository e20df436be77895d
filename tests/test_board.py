"""Statistics and boards: closed forms, agreement with scipy, properties."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import (
    CLEAN,
    UNDECIDED,
    Interval,
    boards,
    boards_json,
    by_image,
    compare,
    discordant,
    discordant_pairs,
    image_error,
    image_errors,
    mcnemar,
    mcnemar_pairs,
    ranks,
    slugify,
    t_interval,
    wilson,
)
from normbench.spec.outcome import Outcome, Status
from normbench.store.schema import to_row

from tests.site import synthetic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=12)


# ---- statistics ----


@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys(total, data):
    correct = data.draw(st.integers(0, total))
    ours = wilson(correct, total)
    theirs = scipy.stats.binomtest(correct, total).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(SHARES)
def test_t_interval_is_scipys(values):
    interval = t_interval(values)
    if np.std(values) < 1e-9:
        return
    theirs = scipy.stats.ttest_1samp(values, 0)
    ci = theirs.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((ci.low, ci.high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, 0.5, 0.5]])
def test_no_interval_from_too_little(values):
    assert t_interval(values) is None


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(a, b):
    expected = scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_pairs(np.array([[0, a], [b, 0]])).tolist() == [[1, mcnemar(a, b)], [mcnemar(a, b), 1]]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_discordant_counts_images(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    packed = [np.packbits(x).tobytes() for x in (a, b)]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert discordant(*packed) == (only_a, only_b)
    assert discordant_pairs(packed).tolist() == [[0, only_a], [only_b, 0]]


INTERVALS = st.lists(
    st.none() | st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda x: Interval(min(x), max(x), "seeds")),
    min_size=1,
    max_size=25,
)


@given(INTERVALS)
def test_ranks_are_what_they_say(intervals):
    for i, (mine, rank) in enumerate(zip(intervals, ranks(intervals), strict=True)):
        above = sum(o is not None and mine is not None and o.low > mine.high for o in intervals)
        below = sum(o is not None and mine is not None and o.high < mine.low for j, o in enumerate(intervals) if j != i)
        assert (rank.best, rank.worst, rank.of) == (1 + above, len(intervals) - below, len(intervals))
        assert 1 <= rank.best <= rank.worst <= len(intervals)


# ---- boards ----


def test_an_entry_is_all_seeds_and_a_board_what_may_be_compared():
    trials = [
        *synthetic.grid(["bn", "gn"], seeds=3),
        *synthetic.grid(["bn"], seeds=3, batch_size=8),
        *synthetic.grid(["bn"], seeds=2, dataset="cifar10-jpeg"),
    ]
    made = boards(synthetic.rows(trials))
    assert [(b.dataset, b.batch_size, len(b.entries)) for b in made] == [
        ("cifar10-jpeg", 64, 2),
        ("digits", 8, 2),
        ("digits", 64, 4),
    ]
    assert [e.label for e in made[2].entries] == ["bn · wd 0", "bn · wd 0.0005", "gn · wd 0", "gn · wd 0.0005"]
    cell = made[2].entries[0].cells["clean"]
    ok = [
        r
        for r in synthetic.rows(trials)
        if r["norm"] == "bn" and r["batch_size"] == 64 and r["weight_decay"] == 0 and r["dataset"] == "digits"
    ]
    assert cell.value == pytest.approx(np.mean([r["clean_accuracy"] for r in ok]))
    assert set(cell.trials) == {r["trial_id"] for r in ok}
    assert "3 seeds; told apart from methods whose interval does not overlap" in cell.covers
    assert cell.alone == t_interval([p.value for p in cell.points])


def test_settings_are_named_only_where_they_differ():
    trials = [synthetic.trial("bn", s, lr=0.1) for s in range(3)] + [
        synthetic.trial("wn", s, lr=0.02) for s in range(3)
    ]
    (board,) = boards(synthetic.rows(trials))
    assert [e.label for e in board.entries] == ["bn", "wn"]
    assert [dict(e.settings)["lr"] for e in board.entries] == ["0.1", "0.02"]
    assert dict(board.shared)["wd"] == "0"


def test_under_three_seeds_there_is_no_interval_and_no_ranking():
    (board,) = boards(synthetic.rows(synthetic.grid(["bn", "in"], seeds=2, weight_decays=[0])))
    for entry in board.entries:
        cell = entry.cells["clean"]
        assert cell.interval is None
        assert cell.rank is None
        assert cell.covers == "not tested: 2 seeds, 3 needed"
        assert "±" not in cell.display


def test_failures_stand_on_the_board_with_their_reason():
    def outcome(trial):
        if trial.norm_label == "bn":
            return synthetic.failure(trial, Status.ERROR, "Expected more than 1 value per channel")
        return synthetic.failure(trial) if trial.seed == 3 else synthetic.outcome(trial)

    (board,) = boards(synthetic.rows(synthetic.grid(["bn", "gn"], seeds=4, weight_decays=[0]), outcome))
    bn, gn = board.entries
    assert bn.cells == {}
    assert bn.status == "4 of 4 error"
    assert bn.failed[0].reason == "Expected more than 1 value per channel"
    assert gn.status == "1 of 4 diverged"
    assert gn.cells["clean"].n == 3
    assert board.standings(CLEAN)[-1] is bn
    assert gn.cells["clean"].rank.of == 1


def test_a_trial_that_never_saw_its_data_stands_with_the_others():
    trials = list(synthetic.grid(["bn"], seeds=3, weight_decays=[0]))
    made = [
        to_row("demo", t, synthetic.identity(t) | ({"data": None} if t.seed == 1 else {}), synthetic.outcome(t))
        for t in trials
    ]
    (board,) = boards(made)
    assert len(board.entries[0].runs) == 3


def test_a_board_never_averages_over_devices_or_precisions_unless_it_is_asked_to():
    trials = list(synthetic.grid(["bn", "gn"], seeds=4, weight_decays=[0]))
    places = [("cpu", "float32"), ("NVIDIA H200", "bf16"), ("NVIDIA H200", "float32"), (None, None)]
    made = [
        to_row(
            "demo",
            t,
            synthetic.identity(t) | dict(zip(("device_class", "precision"), places[t.seed], strict=True)),
            synthetic.outcome(t) if places[t.seed][0] else synthetic.failure(t),
        )
        for t in trials
    ]
    made += [m | {"trial_id": f"{i:016x}", "seed": 9} for i, m in enumerate(made) if m["device_class"] == "cpu"]
    found = {b.placed: b for b in boards(made)}
    assert sorted(found) == ["NVIDIA H200, bf16", "NVIDIA H200, float32", "cpu, float32"]
    assert all(b.placed in b.title for b in found.values())
    assert len({b.id for b in found.values()}) == len({b.slug for b in found.values()}) == 3
    runs = {placed: sorted(r.seed for r in b.entries[0].runs) for placed, b in found.items()}
    assert runs["NVIDIA H200, bf16"] == [1]
    assert runs["cpu, float32"] == [0, 3, 9], "what failed before it had a place stands with most"
    (together,) = boards(made, together=True)
    assert (together.placed, len(together.entries[0].runs)) == ("", 5)


def test_other_data_under_the_same_name_are_another_board():
    trials = list(synthetic.grid(["bn"], seeds=2, weight_decays=[0]))
    made = [to_row("demo", t, synthetic.identity(t) | {"data": str(t.seed)}, synthetic.outcome(t)) for t in trials]
    first, second = boards(made)
    assert first.title.lower() != second.title.lower()
    assert first.slug != second.slug


def test_a_trial_in_two_suites_counts_once_with_its_latest_result():
    trial = synthetic.trial("bn")
    old = to_row("a", trial, synthetic.identity(trial), synthetic.failure(trial))
    new = to_row(
        "b", trial, synthetic.identity(trial), synthetic.outcome(trial).model_copy(update={"started": 1_800_000_000.0})
    )
    (board,) = boards([new, old])
    assert [r.status for r in board.entries[0].runs] == ["ok"]
    assert board.suites == ("a", "b")


def test_mixed_versions_are_noticed():
    trials = list(synthetic.grid(["bn"], seeds=2, weight_decays=[0]))
    made = [
        to_row("demo", t, synthetic.identity(t) | {"versions": {"torch": f"2.{t.seed}"}}, synthetic.outcome(t))
        for t in trials
    ]
    assert boards(made)[0].entries[0].mixed
    assert not boards(synthetic.rows(trials))[0].entries[0].mixed


def test_where_no_seed_differs_the_resolution_of_the_test_images_is_what_is_uncertain():
    """Nothing is known of the variance but that it is small against one image."""
    right = {"bn": 0, "gn": 1, "ln": 150}
    (board,) = boards(
        synthetic.rows(synthetic.grid(right, seeds=3, weight_decays=[0]), lambda t: fixed(t, right[t.norm_label], 300))
    )
    bn, gn, ln = (next(e for e in board.entries if e.norm == n) for n in right)
    assert compare(board, bn, gn, CLEAN).verdict == UNDECIDED
    assert compare(board, ln, gn, CLEAN).verdict == "higher"
    assert bn.cells["clean"].interval.half < 3 / 300


def fixed(trial, correct, total):
    bits = np.arange(total) < correct
    return Outcome(
        status=Status.OK,
        clean_correct=correct,
        test_total=total,
        clean_outcomes=np.packbits(bits).tobytes(),
        started=1.0,
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=5), min_size=1, max_size=6))
def test_intervals_hold_the_mean_and_shares_stay_shares(values):
    trials = [
        (synthetic.trial("bn", seed, lr=0.1 + i), v) for i, seeds in enumerate(values) for seed, v in enumerate(seeds)
    ]
    (board,) = boards(to_row("demo", t, synthetic.identity(t), fixed(t, v, 400)) for t, v in trials)
    for entry in board.entries:
        cell = entry.cells["clean"]
        if cell.interval:
            assert 0 <= cell.interval.low <= cell.interval.high <= 1
            if len(cell.points) == max(len(v) for v in values):  # without seeds that others have
                assert cell.interval.low - 1e-12 <= cell.value <= cell.interval.high + 1e-12
        if cell.n < 3:
            assert cell.interval is cell.rank is None
        elif sum(len(v) > 2 for v in values) > 1:
            assert cell.interval is not None


def test_a_number_that_is_not_finite_is_no_value():
    trial = synthetic.trial()
    row = to_row("demo", trial, synthetic.identity(trial), synthetic.outcome(trial)) | {"clean_accuracy": math.nan}
    (board,) = boards([row])
    assert "clean" not in board.entries[0].cells


def test_names_differing_by_case_stay_apart():
    trials = [t for name in ("gn", "GN", "gN") for t in synthetic.grid([name], seeds=3, weight_decays=[0])] + list(
        synthetic.grid(["gn"], seeds=3, dataset="Digits")
    )
    made = boards(synthetic.rows(trials))
    assert len({e.id for b in made for e in b.entries}) == sum(len(b.entries) for b in made) == 5
    assert len({b.slug.lower() for b in made}) == len(made)
    assert len({b.title.lower() for b in made}) == len(made)


@given(st.text(max_size=400))
def test_a_slug_is_a_safe_file_name(text):
    slug = slugify(text)
    assert 0 < len(slug) <= 80
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_json_of_boards_is_plain():
    text = json.dumps(boards_json(boards(synthetic.rows(synthetic.grid(["bn", "gn"])))), allow_nan=False)
    assert json.loads(text)[0]["entries"][0]["metrics"]["clean"]["n"] == 3


# ---- comparisons ----


def test_a_real_difference_is_told_and_none_is_not():
    quality = {"bn": (0.9, 0.5, 2), "gn": (0.95, 0.5, 2), "ln": (0.9, 0.5, 2)}
    (board,) = boards(
        synthetic.rows(
            synthetic.grid(quality, seeds=6, weight_decays=[0]),
            lambda t: synthetic.outcome(t, total=2000, quality=quality[t.norm_label]),
        )
    )
    by_name = {e.norm: e for e in board.entries}
    assert compare(board, by_name["gn"], by_name["bn"], CLEAN).verdict == "higher"
    assert compare(board, by_name["bn"], by_name["gn"], CLEAN).verdict == "lower"
    assert compare(board, by_name["ln"], by_name["bn"], CLEAN).verdict == UNDECIDED


def test_what_is_not_compared_says_why():
    (board,) = boards(
        synthetic.rows(
            [*synthetic.grid(["bn"], seeds=5, weight_decays=[0]), *synthetic.grid(["gn"], seeds=2, weight_decays=[0])]
        )
    )
    made = compare(board, *board.entries, CLEAN)
    assert (made.verdict, len(made.pairs)) == ("not tested: 2 seeds, 3 needed", 2)
    nothing = synthetic.trial("none")
    (board,) = boards(
        synthetic.rows(synthetic.grid(["bn"], seeds=3, weight_decays=[0]))
        + synthetic.rows([nothing], synthetic.failure)
    )
    made = compare(board, *board.entries, CLEAN)
    assert (made.verdict, made.mean, made.pairs) == ("diverged", None, ())


def test_differences_beyond_these_images_count_those_on_which_two_methods_differ():
    generator = np.random.default_rng(0)
    bits = generator.random((2, 3, 397)) < np.array([0.9, 0.6])[:, None, None]
    packed = [[np.packbits(b).tobytes() for b in several] for several in bits]
    shares = [by_image(several, 397) for several in packed]
    assert shares == [pytest.approx(several.mean(axis=0)) for several in bits]
    difference = bits[0].mean(axis=0) - bits[1].mean(axis=0)
    assert image_error(*shares) == pytest.approx(scipy.stats.sem(difference))
    assert image_error(shares[0], shares[0]) == 0
    ours = image_error(*shares)
    assert image_errors(shares) == pytest.approx(np.array([[0, ours], [ours, 0]]), abs=1e-9)
    assert np.isinf(image_errors([s[:1] for s in shares])).all()
    assert image_error(*(s[:1] for s in shares)) == math.inf
    two = [np.array([0.0, 1.0]), np.array([1.0, 1.0])]
    assert image_error(*two) == image_errors(two)[0, 1] == pytest.approx(scipy.stats.sem(two[0] - two[1]))
    (board,) = boards(
        synthetic.rows(
            synthetic.grid(["bn", "in"], seeds=3, weight_decays=[0]),
            lambda t: fixed(t, (200 if t.norm_label == "bn" else 190) + t.seed, 300),
        )
    )
    made = compare(board, *board.entries, CLEAN)
    assert made.verdict == "higher"
    half = made.interval.half
    limit = math.sqrt(made.mean**2 - half**2) / scipy.stats.norm.ppf(0.975)
    assert made.beyond(limit * 0.999)
    assert not made.beyond(limit * 1.001)
    assert made.turned.beyond(limit * 0.999)
    assert not made.turned.beyond(limit * 1.001)
    assert not replace(made, why="not tested").beyond(0.0)
