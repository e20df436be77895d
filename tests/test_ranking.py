"""The rule that tells methods apart: against closed forms, other implementations and its own promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import differences, rank
from normbench.board.ranking import _PAIRS, DRAWS, _largest, _of_many, _of_pairs, _place, _share, cliques
from normbench.board.variances import FREEDOMS, LEANING, two_way, variances


def by_seed(table):
    return [{j: float(v) for j, v in enumerate(row) if math.isfinite(v)} for row in table]


def drawn(seed, methods=5, seeds=4, spread=1.0):
    return np.random.default_rng(seed).normal(size=(methods, seeds)) * np.broadcast_to(spread, (methods,))[:, None]


# ---- two-way fits ----


def holes(seed):
    """A table of 5 methods and 6 seeds in which some are missing, all methods linked."""
    table = drawn(seed, 5, 6)
    gone = np.random.default_rng(seed + 100).random(table.shape) < 0.25
    gone[:, :2] = False
    table[gone] = np.nan
    return table


@pytest.mark.parametrize("seed", range(5))
def test_a_fit_is_that_of_dummy_variables(seed):
    """Weighted least squares over indicator columns, solved by numpy; degrees of freedom from its projection."""
    table, weights = holes(seed), np.array([1.0, 2.0, 0.5, 4.0, 1.0])
    rows, columns = np.nonzero(np.isfinite(table))
    design = np.zeros((len(rows), 5 + 6))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), 5 + columns] = 1
    root = np.sqrt(weights[rows])
    solved = np.linalg.lstsq(design * root[:, None], table[rows, columns] * root, rcond=None)[0]
    effects = solved[5:] - solved[5:].mean()
    fit = two_way(table, weights)
    assert fit.means == pytest.approx(solved[:5] + solved[5:].mean())
    left = table[rows, columns] - fit.means[rows] - effects[columns]
    assert fit.squares == pytest.approx([(left[rows == i] ** 2).sum() for i in range(5)])
    hat = (design * root[:, None]) @ np.linalg.pinv(design * root[:, None])
    assert fit.freedoms == pytest.approx([(1 - np.diag(hat))[rows == i].sum() for i in range(5)])
    assert fit.freedoms.sum() == pytest.approx(len(rows) - (5 + 6 - 1))
    assert fit.counts.tolist() == np.isfinite(table).sum(axis=1).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_means_without_some_seeds_vary_as_said(seed):
    """A mean's variance is its own over its seeds, and what the others' estimate of the missing seeds adds."""
    table, spread = holes(seed), np.array([1.0, 0.7, 1.4, 0.5, 1.0])
    there = np.isfinite(table)
    fit = two_way(table, 1 / spread**2)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(4000):
        again = np.where(there, generator.normal(size=table.shape) * spread[:, None], np.nan)
        means.append(two_way(again, 1 / spread**2).means)
    contrast = np.array(means)
    contrast = contrast[:, :, None] - contrast[:, None]
    said = spread**2 / fit.counts + fit.extra
    for a, b in itertools.combinations(range(5), 2):
        # Both means lean on the same seeds' effects, so that the sum is at most too large.
        assert contrast[:, a, b].var() < 1.08 * (said[a] + said[b])


def test_a_complete_table_has_plain_means_and_no_seed_effect():
    table = drawn(0)
    fit, shifted = two_way(table, np.ones(5)), two_way(table + np.array([5.0, -3.0, 0.0, 1.0]), np.ones(5))
    assert fit.means == pytest.approx(table.mean(axis=1))
    assert shifted.squares == pytest.approx(fit.squares)
    assert fit.freedoms == pytest.approx([3 * 4 / 5] * 5)
    assert fit.extra == pytest.approx([0] * 5)


def test_methods_without_a_seed_in_common_keep_their_seeds_effects():
    table = np.full((2, 6), np.nan)
    table[0, :3], table[1, 3:] = [1.0, 2.0, 3.0], [4.0, 6.0, 8.0]
    fit = two_way(table, np.ones(2))
    assert fit.means == pytest.approx([2.0, 6.0])
    assert fit.squares == pytest.approx([2.0, 8.0])
    assert fit.freedoms == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(("common", "paired"), [(0, False), (1, False), (2, False), (3, True)])
def test_pairing_must_leave_two_degrees_of_freedom(common, paired):
    """Of three seeds each, so many common to both; else each method has its own spread and two degrees of freedom."""
    table = np.full((2, 6 - common), np.nan)
    table[0, :3], table[1, 3 - common :] = [1.0, 2.0, 4.0], [3.0, 7.0, 8.0]
    fit = two_way(table, np.ones(2))
    assert fit.freedoms == pytest.approx([1.0, 1.0] if paired else [2.0, 2.0])
    if not paired:
        assert fit.squares == pytest.approx([14 / 3, 14.0])


def test_pairs_that_leave_nothing_of_their_spread_are_not_paired():
    """Three seeds each, of which one is common to both: its effect explains all that is left."""
    made = rank([{0: 1.0, 1: 1.3, 2: 0.9}, {2: 7.0, 3: 7.2, 4: 7.4}])
    assert [s.rank.text for s in made.standings] == ["2", "1"]


# ---- variances ----


def test_variances_known_to_be_equal_are_pooled():
    """The posterior of one variance under a flat prior of its logarithm: squares / chi2(freedoms)."""
    squares, freedoms = np.array([1.0, 4.0, 2.5]), np.array([2.0, 3.0, 2.0])
    made = variances(squares, freedoms, equal=True).draw(20_000, np.random.default_rng(0))
    assert np.ptp(made, axis=1).max() == 0, "one variance for all"
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    expected = squares.sum() / scipy.stats.chi2(freedoms.sum()).ppf([1 - q for q in shares])
    assert np.quantile(made[:, 0], shares) == pytest.approx(expected, rel=0.1)  # the grid's steps are a quarter


def test_variances_are_those_of_the_hierarchical_model():
    """Against importance sampling: variances drawn from the prior, weighted by how likely the squares are."""
    squares, freedoms = np.array([0.4, 1.0, 9.0, 2.0]), np.array([2.0, 2.0, 2.0, 3.0])
    generator = np.random.default_rng(1)
    count = 400_000
    own = squares / freedoms
    centre = np.average(own, weights=freedoms)
    prior = generator.choice(FREEDOMS[:-1], size=count, p=LEANING[:-1] / LEANING[:-1].sum())[:, None]
    scale = centre * np.exp(generator.uniform(-5, 9, size=(count, 1)))
    truth = prior * scale / generator.chisquare(prior, size=(count, 4))
    weights = scipy.stats.chi2.logpdf(squares / truth, freedoms) - np.log(truth)
    weights = np.exp(weights.sum(axis=1) - weights.sum(axis=1).max())
    believed = variances(squares, freedoms)
    ours = np.log(believed.draw(20_000, generator))
    theirs = np.log(truth)
    for i in range(4):
        order = np.argsort(theirs[:, i])
        cumulative = np.cumsum(weights[order]) / weights.sum()
        for share in (0.1, 0.5, 0.9):
            expected = theirs[order[np.searchsorted(cumulative, share)], i]
            assert np.quantile(ours[:, i], share) == pytest.approx(expected, abs=0.25)


def test_a_thousand_methods_know_their_common_variance():
    """So many say it to the percent; the likelihood itself is below what a float holds."""
    squares = np.random.default_rng(0).chisquare(4, 1000)
    believed = variances(squares, np.full(1000, 4.0))
    assert believed.likely == pytest.approx(np.ones(1000), abs=0.3)
    assert believed.likely.mean() == pytest.approx(1, abs=0.05)


def test_what_does_not_vary_says_nothing_of_the_others():
    squares, freedoms = np.array([2.0, 1.8, 2.2, 1.9, 0.0]), np.full(5, 2.0)
    assert variances(squares, freedoms).likely[:4] == pytest.approx(variances(squares[:4], freedoms[:4]).likely)
    assert variances(np.zeros(3), np.full(3, 2.0)) is None
    assert variances(np.zeros(3), np.full(3, 2.0), floor=0.25).likely == pytest.approx([0.25] * 3, rel=1)
    assert variances(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_a_method_whose_seeds_say_nothing_is_believed_to_be_as_the_others(unit):
    """Its squares do not count; what is believed of it is the prior alone, which the others' variances decide."""
    squares, freedoms = np.array([2.0, 1.0, 3.0, 9.0]) * unit, np.array([2.0, 3.0, 2.0, 0.2])
    made, others = variances(squares, freedoms), variances(squares[:3], freedoms[:3])
    assert made.likely[:3] == pytest.approx(others.likely)
    assert made.likely[3] == pytest.approx(math.exp((made._weights * np.log(made._scales)).sum()))
    assert made.draw(10, np.random.default_rng(0)).dtype == np.float32


# ---- the rule ----


@pytest.mark.parametrize("seed", range(8))
def test_of_two_methods_it_is_students_paired_test(seed):
    table = drawn(seed, 2, 5)
    table[1] += 0.8
    made = rank(by_seed(table))
    expected = scipy.stats.ttest_rel(*table)
    assert made.p(*made.standings) == pytest.approx(expected.pvalue, abs=0.02)
    low, high = expected.confidence_interval()
    one, other = (s.interval for s in made.standings)
    assert one.half + other.half == pytest.approx((high - low) / 2, rel=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_one_difference_is_students_test(seed):
    values = np.random.default_rng(seed).normal(0.7, size=6)
    (made,) = differences([values.tolist()])
    expected = scipy.stats.ttest_1samp(values, 0)
    assert (made.mean, made.p) == (pytest.approx(values.mean()), pytest.approx(expected.pvalue, abs=0.02))
    assert (made.interval.low, made.interval.high) == pytest.approx(tuple(expected.confidence_interval()), abs=0.08)


def test_differences_without_enough_seeds_are_not_judged():
    made = differences([[0.1, 0.2], [], [0.1, 0.2, 0.4], [5.0, 5.1, 5.2]])
    assert [d.interval is None for d in made] == [True, True, False, False]
    assert made[0].mean == pytest.approx(0.15)
    assert math.isnan(made[1].mean)
    assert [d.p <= 0.05 for d in made[2:]] == [d.interval.low > 0 for d in made[2:]]
    assert [d.interval for d in differences([[1.0, 1.0, 1.0]])] == [None]


def test_a_difference_is_as_sure_as_its_seeds_are_many():
    """Alike in spread, one of 12 seeds has half the standard error of one of 3; all share one factor."""
    few, many = np.array([-1.0, 0.0, 1.0]), np.tile([-1.0, 0.0, 1.0], 4)
    one, other = (d.interval for d in differences([few.tolist(), (many * math.sqrt(11 / 12)).tolist()]))
    assert one.half / other.half == pytest.approx(2, rel=0.15)


def test_neither_order_nor_unit_of_differences_changes_what_is_told():
    values = [(row + 0.5).tolist() for row in drawn(5, 6, 4, np.array([0.2, 1.0, 3.0, 0.5, 1.0, 2.0]))] + [[0.0] * 3]
    before = differences(values)
    assert differences(values[::-1])[::-1] == before
    for unit in (2.0**-50, 2.0**50):
        after = differences([[v * unit for v in own] for own in values])
        assert [d.interval.high / unit for d in after] == pytest.approx([d.interval.high for d in before])
        assert [d.p for d in after] == pytest.approx([d.p for d in before])
        # Equal up to rounding, in every unit.
        assert differences([[0.3 * unit, 0.1 * unit + 0.2 * unit, 0.3 * unit]])[0].interval is None
    assert differences([[0.1, 0.2]])[0].interval is None


def test_differences_that_are_sure_leave_more_to_the_others():
    table = drawn(3, 8, 4)
    far = table + 1000 * (np.arange(8) > 0)[:, None]
    assert differences(far.tolist())[0].interval.half < 0.85 * differences(table.tolist())[0].interval.half


TABLES = st.tuples(st.integers(0, 10_000), st.integers(2, 9), st.integers(3, 6), st.sampled_from([0.0, 2.0, 6.0]))


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_what_is_apart_is_seen_to_be_apart(shape):
    """Intervals, ranks and p-values say the same of every pair."""
    seed, methods, seeds, gap = shape
    table = drawn(seed, methods, seeds) + gap * (np.arange(methods) % 3)[:, None]
    made = rank(by_seed(table))
    for a, b in itertools.combinations(made.standings, 2):
        assert (made.p(a, b) <= 0.05) == (not a.interval.overlaps(b.interval))
        assert 0 <= made.p(a, b) <= 1
        assert a.interval.covers == "comparison"
        if not a.interval.overlaps(b.interval):
            assert (a.rank.best > b.rank.best) == (a.mean < b.mean)
    for i, own in enumerate(made.standings):
        others = [s for j, s in enumerate(made.standings) if j != i]
        assert own.rank.best == 1 + sum(s.interval.low > own.interval.high for s in others)
        assert own.rank.worst == methods - sum(s.interval.high < own.interval.low for s in others)
        assert own.interval.half == pytest.approx(made.factor * own.error)
        assert own.mean == pytest.approx(table[i].mean())


@settings(max_examples=20, deadline=None)
@given(TABLES, st.floats(-50, 50), st.floats(0.01, 100))
def test_order_unit_and_what_a_seed_does_to_all_change_nothing(shape, shift, scale):
    seed, methods, seeds, gap = shape
    table = drawn(seed, methods, seeds) + gap * (np.arange(methods) % 3)[:, None]
    generator = np.random.default_rng(seed)
    order = generator.permutation(methods)
    before, after = rank(by_seed(table)), rank(by_seed(table[order]))
    assert after.factor == before.factor
    assert [after.standings[i].rank for i in np.argsort(order)] == [s.rank for s in before.standings]
    moved = rank(by_seed(table * scale + shift))
    assert moved.factor == pytest.approx(before.factor, rel=1e-3)
    seeded = rank(by_seed(table + 10 * generator.normal(size=seeds)))
    for one, other in zip(before.standings, seeded.standings, strict=True):
        assert other.error == pytest.approx(one.error, rel=1e-3)


@pytest.mark.parametrize("methods", [2, 3, 5])
def test_no_unit_is_too_small_or_too_large_where_seeds_are_missing(methods):
    """Powers of two, so that rounding is the same: every error and half-width scales along."""
    table = drawn(2, methods, 6, np.arange(1.0, methods + 1))
    table[0, 4:] = table[-1, 0] = np.nan
    before = rank(by_seed(table))
    constant = np.full((methods, 3), 0.3)
    constant[0, 1] = 0.1 + 0.2
    for unit in (2.0**-50, 2.0**40):
        after = rank(by_seed(table * unit))
        assert [s.error / unit for s in after.standings] == pytest.approx([s.error for s in before.standings])
        assert after.factor == pytest.approx(before.factor)
        assert all(s.interval is None for s in rank(by_seed(constant * unit)).standings), "equal up to rounding"


def test_pairs_that_are_apart_leave_more_to_the_others(monkeypatch):
    """Far groups are told apart in a first step; within them the factor is that of fewer pairs."""
    table = drawn(3, 8, 4)
    far = table + 1000 * (np.arange(8) // 2)[:, None]
    assert rank(by_seed(far)).factor < 0.85 * rank(by_seed(table)).factor
    monkeypatch.setattr("normbench.board.ranking._STEP", 7)  # the groups have eight intervals
    assert rank(by_seed(far)).factor == pytest.approx(rank(by_seed(table)).factor, rel=0.03)


def test_under_three_seeds_nothing_is_told():
    made = rank([{0: 1.0, 1: 1.1}, {0: 5.0, 1: 5.1}])
    assert [(s.interval, s.rank) for s in made.standings] == [(None, None)] * 2
    assert math.isnan(made.factor)
    mixed = rank([{0: 1.0, 1: 1.1}, {0: 5.0, 1: 5.2, 2: 5.3}, {0: 1.0, 1: 1.4, 2: 1.2}, {}])
    assert [s.rank and s.rank.text for s in mixed.standings] == [None, "1", "2", None]
    assert [s.n for s in mixed.standings] == [2, 3, 3, 0]
    assert [s.rank.of for s in mixed.standings if s.rank] == [2, 2]
    assert mixed.p(*mixed.standings[:2]) is mixed.p(*mixed.standings[1::2]) is None
    (alone,) = rank([{0: 1.0, 1: 1.1, 2: 1.3}]).standings
    assert (alone.interval, alone.rank.text, alone.rank.of) == (None, "1", 1)
    assert rank([]).standings == ()


def test_a_method_without_some_seeds_is_measured_by_what_others_say_of_them():
    """Seed 3 is easy by 10 for all; who lacks it is not the worse for that."""
    table = drawn(1, 6, 4, 0.1) + np.array([0.0, 0.0, 0.0, 10.0])
    table[0, 3] = np.nan
    made = rank(by_seed(table))
    assert made.standings[0].mean == pytest.approx(np.nanmean(table[0]))
    assert made.standings[0].interval.middle == pytest.approx(2.5, abs=0.3)
    assert made.standings[0].rank.best == 1


def test_values_on_a_grid_that_agree_are_known_to_half_a_step():
    values = [dict.fromkeys(range(3), v) for v in (0.9, 0.9 + 1 / 360, 0.95)]
    assert all(s.interval is None for s in rank(values).standings), "without the step nothing is known"
    made = rank(values, resolution=1 / 360)
    assert made.standings[0].interval.overlaps(made.standings[1].interval)
    assert not made.standings[0].interval.overlaps(made.standings[2].interval)
    # A quarter of the step's square is the most that rounding to either of two steps varies by.
    believed = variances(np.zeros(3), np.full(3, 2 * 2 / 3), (1 / 360) ** 2 / 4)
    assert made.standings[0].error == pytest.approx(math.sqrt(believed.likely[0] / 3))


# ---- its parts ----


@pytest.mark.parametrize("of", [_of_pairs, _of_many])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), methods=st.integers(1, 8))
def test_the_largest_pair_is_found(of, seed, methods):
    generator = np.random.default_rng(seed)
    drawn_ = generator.normal(size=(20, methods)).astype(np.float32)
    errors = generator.uniform(0.1, 3, methods).astype(np.float32)
    expected = [
        max(
            (abs(d[a] - d[b]) / (errors[a] + errors[b]) for a, b in itertools.combinations(range(methods), 2)),
            default=0,
        )
        for d in drawn_
    ]
    assert of(np.ascontiguousarray(drawn_.T), errors) == pytest.approx(np.array(expected), rel=1e-5)


@pytest.mark.parametrize("methods", [_PAIRS, _PAIRS + 1])
def test_many_pairs_are_searched_for_what_each_would_show(methods):
    generator = np.random.default_rng(methods)
    drawn_ = generator.normal(size=(methods, 500)).astype(np.float32)
    errors = generator.uniform(0.1, 3, methods).astype(np.float32)
    assert _of_many(drawn_, errors) == pytest.approx(_of_pairs(drawn_, errors), rel=1e-6)
    assert (_largest(drawn_, errors) == (_of_pairs if methods == _PAIRS else _of_many)(drawn_, errors)).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=9))
def test_cliques_hold_every_pair_that_overlaps_and_no_other(intervals):
    lows, highs = (
        (np.array(v, float) for v in zip(*[(a, a + b) for a, b in intervals], strict=True))
        if intervals
        else (
            np.zeros(0),
            np.zeros(0),
        )
    )
    found = cliques(lows, highs)
    together = {pair for group in found for pair in itertools.combinations(group.tolist(), 2)}
    assert together == {
        (a, b) for a, b in itertools.combinations(range(len(lows)), 2) if lows[a] <= highs[b] and lows[b] <= highs[a]
    }
    assert len({tuple(g) for g in found}) == len(found)


@pytest.mark.parametrize("of", [DRAWS, 20_000])
def test_few_draws_do_not_make_a_board_bold(of):
    """What is called a share of 5 % is one in five cases of six at most: a binomial count's chance."""
    larger = of - 1 - _place(of)
    assert 0.8 < scipy.stats.binom(of, 0.05).sf(larger) < 0.9
    drawn = np.arange(of, dtype=np.float32)
    assert _share(drawn, _place(of) + 0.5) <= 0.05 < _share(drawn, _place(of))
