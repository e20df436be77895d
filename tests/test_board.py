"""Statistics and boards: closed forms, agreement with scipy, properties."""

from __future__ import annotations

import io
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import (
    CLEAN,
    UNDECIDED,
    Interval,
    against,
    boards,
    boards_json,
    compare,
    compare_entries,
    discordant,
    growth,
    holm,
    mcnemar,
    ranks,
    slugify,
    t_interval,
    t_test,
    wilson,
)
from normbench.board.comparison import Pair, paired
from normbench.cli.main import app
from normbench.cli.terminal import render
from normbench.spec.outcome import AttackResult, Outcome, Status
from normbench.spec.robustness import WORST_CASE
from normbench.store.schema import to_row
from rich.console import Console
from typer.testing import CliRunner

from tests.site import synthetic

SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=12)


def rows(trials, outcome=synthetic.outcome, suite="demo"):
    return [to_row(suite, t, synthetic.identity(t), outcome(t)) for t in trials]


# ---- statistics ----


@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys(total, data):
    correct = data.draw(st.integers(0, total))
    ours = wilson(correct, total)
    theirs = scipy.stats.binomtest(correct, total).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(SHARES)
def test_t_interval_and_test_are_scipys(values):
    interval = t_interval(values)
    if np.std(values) < 1e-9:
        return
    theirs = scipy.stats.ttest_1samp(values, 0)
    ci = theirs.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((ci.low, ci.high), rel=1e-6, abs=1e-9)
    assert t_test(values) == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, 0.5, 0.5]])
def test_no_interval_from_too_little(values):
    assert t_interval(values) is None
    assert t_test(values) is None


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(a, b):
    expected = scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_discordant_counts_images(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    packed = [np.packbits(x).tobytes() for x in (a, b)]
    assert discordant(*packed) == (int((a & ~b).sum()), int((b & ~a).sum()))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_is_between_p_and_bonferroni_and_keeps_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    for (p, q), (r, s) in itertools.combinations(zip(p_values, adjusted, strict=True), 2):
        assert (p - r) * (q - s) >= 0


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
        assert (rank.best, rank.worst) == (1 + above, len(intervals) - below)
        assert 1 <= rank.best <= rank.worst <= len(intervals)


# ---- boards ----


def test_an_entry_is_all_seeds_and_a_board_what_may_be_compared():
    trials = [
        *synthetic.grid(["bn", "gn"], seeds=3),
        *synthetic.grid(["bn"], seeds=3, batch_size=8),
        *synthetic.grid(["bn"], seeds=2, dataset="cifar10-jpeg"),
    ]
    made = boards(rows(trials))
    assert [(b.dataset, b.batch_size, len(b.entries)) for b in made] == [
        ("cifar10-jpeg", 64, 2),
        ("digits", 8, 2),
        ("digits", 64, 4),
    ]
    assert [e.label for e in made[2].entries] == ["bn · wd 0", "bn · wd 0.0005", "gn · wd 0", "gn · wd 0.0005"]
    cell = made[2].entries[0].cells["clean"]
    ok = [
        r
        for r in rows(trials)
        if r["norm"] == "bn" and r["batch_size"] == 64 and r["weight_decay"] == 0 and r["dataset"] == "digits"
    ]
    assert cell.value == pytest.approx(np.mean([r["clean_accuracy"] for r in ok]))
    assert set(cell.trials) == {r["trial_id"] for r in ok}
    assert "95 % t-interval over 3 seeds" in cell.covers


def test_settings_are_named_only_where_they_differ():
    trials = [synthetic.trial("bn", s, lr=0.1) for s in range(3)] + [
        synthetic.trial("wn", s, lr=0.02) for s in range(3)
    ]
    (board,) = boards(rows(trials))
    assert [e.label for e in board.entries] == ["bn", "wn"]
    assert [dict(e.settings)["lr"] for e in board.entries] == ["0.1", "0.02"]
    assert dict(board.shared)["wd"] == "0"


def test_under_three_seeds_there_is_no_interval_and_no_ranking():
    (board,) = boards(rows(synthetic.grid(["bn", "in"], seeds=2, weight_decays=[0])))
    for entry in board.entries:
        cell = entry.cells["clean"]
        assert cell.interval is None
        assert (cell.rank.best, cell.rank.worst) == (1, 2)
        assert cell.covers == "not tested: 2 seeds, 3 needed"
        assert "±" not in cell.display


def test_failures_stand_on_the_board_with_their_reason():
    def outcome(trial):
        if trial.norm_label == "bn":
            return synthetic.failure(trial, Status.ERROR, "Expected more than 1 value per channel")
        return synthetic.failure(trial) if trial.seed == 3 else synthetic.outcome(trial)

    (board,) = boards(rows(synthetic.grid(["bn", "gn"], seeds=4, weight_decays=[0]), outcome))
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
    assert not boards(rows(trials))[0].entries[0].mixed


def test_when_all_seeds_agree_the_test_images_are_what_is_uncertain():
    (board,) = boards(rows(synthetic.grid(["bn"], seeds=3, weight_decays=[0]), lambda t: fixed(t, 0, 300)))
    cell = board.entries[0].cells["clean"]
    assert cell.interval == wilson(0, 300)
    assert "all 3 seeds agree" in cell.covers


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
            assert 0 <= cell.interval.low <= cell.value <= cell.interval.high <= 1
        assert (cell.interval is None) == (cell.n < 3)


def attacked(results, clean=40):
    """A board of one trial with these results: attack, threat, size and which images are right."""

    def outcome(trial):
        attacks = [
            AttackResult(
                attack=name,
                threat=threat,
                size=size,
                correct=int(np.sum(bits)),
                total=len(bits),
                outcomes=np.packbits(bits).tobytes(),
                seconds=0,
                model_calls=0,
            )
            for name, threat, size, bits in results
        ]
        return Outcome(status=Status.OK, clean_correct=clean, test_total=clean, attacks=attacks, started=1.0)

    (board,) = boards(rows([synthetic.trial()], outcome))
    return board


def worst_of(board):
    return {(m.threat, m.size): board.entries[0].cells[m.key].value for m in board.metrics if m.attack == WORST_CASE}


def test_worst_case_is_image_by_image():
    a, b = np.array([1, 1, 0, 0] * 10, bool), np.array([1, 0, 1, 0] * 10, bool)
    board = attacked([("bim", "linf", 8 / 255, a), ("pgd", "linf", 8 / 255, b)])
    headline = board.headline("robust")
    assert headline.label == "worst case linf 8/255"
    assert board.entries[0].cells[headline.key].value == 0.25


def test_a_worst_case_counts_every_attack_at_this_or_a_smaller_size():
    few, most = np.arange(40) < 4, np.arange(40) < 34
    board = attacked([("pgd", "linf", 4 / 255, few), ("bim", "linf", 2 / 255, most), ("bim", "linf", 8 / 255, most)])
    assert worst_of(board) == {("linf", 4 / 255): 0.1, ("linf", 8 / 255): 0.1}


def test_the_worst_case_of_a_single_attack_is_that_attack():
    right = np.arange(40) < 20
    board = attacked([("bim", "linf", 1 / 255, right), ("bim", "linf", 2 / 255, right), ("pgd-l2", "l2", 0.5, right)])
    assert worst_of(board) == {}
    assert {m.attack for m in board.of("robust")} == {"bim", "pgd-l2"}


def test_without_a_ball_or_the_same_images_there_is_no_worst_case():
    right, fewer = np.arange(40) < 20, np.arange(24) < 20
    assert worst_of(attacked([("noise", "noise", 0.1, right), ("uniform-noise", "noise", 0.1, right)])) == {}
    assert worst_of(attacked([("bim", "linf", 0.1, right), ("pgd", "linf", 0.1, fewer)])) == {}


def test_growth_is_last_over_first_of_the_whole_network():
    curves = [
        {"step": s, "epoch": s, "measure": m, "layer": layer, "value": v}
        for m, layer, values in (
            ("weight-norm.raw", "", [2.0, 3.0, 5.0]),
            ("weight-norm.raw", "conv", [1, 9, 9]),
            ("weight-norm.effective", "", [1.0, None, None]),
        )
        for s, v in enumerate(values)
    ]
    assert growth(reversed(curves)) == {"weight-norm.raw": (2.0, 5.0)}


def test_a_number_that_is_not_finite_is_no_value():
    trial = synthetic.trial()
    row = to_row("demo", trial, synthetic.identity(trial), synthetic.outcome(trial)) | {"clean_accuracy": math.nan}
    (board,) = boards([row])
    assert "clean" not in board.entries[0].cells


def test_names_differing_by_case_stay_apart():
    trials = [t for name in ("gn", "GN", "gN") for t in synthetic.grid([name], seeds=3, weight_decays=[0])] + list(
        synthetic.grid(["gn"], seeds=3, dataset="Digits")
    )
    made = boards(rows(trials))
    assert len({e.id for b in made for e in b.entries}) == sum(len(b.entries) for b in made) == 5
    assert len({b.slug.lower() for b in made}) == len(made)
    assert len({b.title.lower() for b in made}) == len(made)


@given(st.text(max_size=400))
def test_a_slug_is_a_safe_file_name(text):
    slug = slugify(text)
    assert 0 < len(slug) <= 60
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_json_of_boards_is_plain():
    text = json.dumps(boards_json(boards(rows(synthetic.grid(["bn", "gn"])))), allow_nan=False)
    assert json.loads(text)[0]["entries"][0]["metrics"]["clean"]["n"] == 3


# ---- comparisons ----


def test_a_real_difference_is_told_and_none_is_not():
    quality = {"bn": (0.9, 0.5, 2), "gn": (0.95, 0.5, 2), "ln": (0.9, 0.5, 2)}
    (board,) = boards(
        rows(
            synthetic.grid(quality, seeds=6, weight_decays=[0]),
            lambda t: synthetic.outcome(t, total=2000, quality=quality[t.norm_label]),
        )
    )
    by_name = {e.norm: e for e in board.entries}
    assert compare_entries(by_name["gn"], by_name["bn"], CLEAN).verdict == "higher"
    assert compare_entries(by_name["bn"], by_name["gn"], CLEAN).verdict == "lower"
    assert compare_entries(by_name["ln"], by_name["bn"], CLEAN).verdict == UNDECIDED


def noise_comparisons(seed):
    values = np.random.default_rng(seed).normal(size=(6, 5))
    made = [paired(CLEAN, [Pair(s, float(values[k, s]), float(values[0, s])) for s in range(5)]) for k in range(1, 6)]
    return [replace(c, p_holm=p) for c, p in zip(made, holm([c.p for c in made]), strict=True)]


def test_the_family_wise_error_is_about_five_percent():
    told = [any(c.verdict in {"higher", "lower"} for c in noise_comparisons(seed)) for seed in range(400)]
    assert np.mean(told) < 0.08


def test_comparing_needs_three_common_seeds():
    (board,) = boards(
        rows([*synthetic.grid(["bn"], seeds=5, weight_decays=[0]), *synthetic.grid(["gn"], seeds=2, weight_decays=[0])])
    )
    bn, gn = board.entries
    assert compare_entries(bn, gn, CLEAN).verdict == f"{UNDECIDED}: 2 seeds in common, 3 needed"
    nothing = synthetic.trial("none")
    (board,) = boards(rows(synthetic.grid(["bn"], seeds=3, weight_decays=[0])) + rows([nothing], synthetic.failure))
    assert compare_entries(*board.entries, CLEAN).verdict == f"{UNDECIDED}: no seed in common"


def test_pairs_of_seeds_carry_mcnemar():
    all_rows = rows(synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]))
    a, b = ([r for r in all_rows if r["norm"] == n] for n in ("bn", "gn"))
    made = compare(a, b)
    for pair, row_a, row_b in zip(made.pairs, a, b, strict=True):
        x, y = (np.unpackbits(np.frombuffer(r["clean_outcomes"], np.uint8)).astype(bool) for r in (row_a, row_b))
        assert (pair.only_a, pair.only_b) == (int((x & ~y).sum()), int((y & ~x).sum()))
        assert pair.p_images == pytest.approx(scipy.stats.binomtest(pair.only_a, pair.only_a + pair.only_b).pvalue)
    assert made.mean == pytest.approx(np.mean([p.difference for p in made.pairs]))
    (board,) = boards(all_rows)
    assert compare_entries(*board.entries, CLEAN).interval == made.interval


def test_against_adjusts_by_holm_over_all_others():
    (board,) = boards(rows(synthetic.grid(["bn", "gn", "ln", "in"], seeds=5, weight_decays=[0])))
    reference = board.entries[0]
    made = against(board, reference, CLEAN)
    raw = [compare_entries(e, reference, CLEAN).p for e, _ in made]
    assert [c.p_holm for _, c in made] == pytest.approx(holm(raw))


# ---- terminal ----


@pytest.mark.parametrize(("flags", "placed"), [([], ("cpu", "float32")), (["--together"], ("", ""))])
def test_the_command_averages_over_devices_only_where_the_reader_asks(flags, placed):
    shown = CliRunner().invoke(app, ["board", "digits", "--json", *flags])
    assert [(b["device_class"], b["precision"]) for b in json.loads(shown.stdout)] == [placed]


def test_nothing_is_cut_off_in_a_terminal_of_80_columns():
    def with_every_weight_norm(trial):
        outcome = synthetic.outcome(trial)
        raw = [r for r in outcome.curves if r.measure == "weight-norm.raw"]
        kinds = [f"weight-norm.{kind}{part}" for kind in ("raw", "effective") for part in ("", "-invariant", "-other")]
        return outcome.model_copy(
            update={"curves": (*outcome.curves, *(r.model_copy(update={"measure": k}) for k in kinds[1:] for r in raw))}
        )

    made = boards(rows([*synthetic.grid(["bn", "gn", "ws+gn"], seeds=3, weight_decays=[0])], with_every_weight_norm))
    assert len(made[0].of("weight-norm")) >= 6
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(made))
    text = console.export_text()
    assert "growth" in text
    assert "…" not in text


def test_the_terminal_shows_every_entry_rank_and_failure():
    trials = [*synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]), synthetic.trial("[red]x[/red]", 0)]
    made = boards(rows(trials, lambda t: synthetic.failure(t) if "x" in t.norm_label else synthetic.outcome(t)))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(made))
    text = console.export_text()
    assert "digits · resnet18 · batch 64\n" in text
    assert "all 360 test images" in text
    for word in ("bn", "gn", "[red]x[/red]", "±", "diverged: loss became non-finite", "0.0625", "growth"):
        assert word in text
