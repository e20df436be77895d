"""Resampled means, contrasts and correlations against closed forms, scipy and their own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from normbench.studies._stats import Estimate, correlation, kendall, resample, slope
from scipy import stats

#: Synthetic draws for rates: a 95 % interval then misses 5 % with a standard error of 1.1 points.
REPEATS = 400


def missed(estimates: list[Estimate | None]) -> float:
    return float(np.mean([e is None or not e.holds(0) for e in estimates]))


@pytest.mark.parametrize(("groups", "seeds"), [(1, 3), (4, 3), (3, 5)])
def test_an_interval_misses_the_truth_about_one_time_in_twenty(groups, seeds):
    rng = np.random.default_rng(groups)
    found = [
        resample(rng.normal(size=(groups, seeds, 2))).estimate(lambda m: (m[..., 0] - m[..., 1]).mean(-1))
        for _ in range(REPEATS)
    ]
    assert 0.01 <= missed(found) <= 0.095


def test_seeds_that_move_all_columns_alike_cancel_in_a_difference():
    rng = np.random.default_rng(0)
    shared = 10 * rng.normal(size=(4, 3, 1))
    found = resample(shared + 0.01 * rng.normal(size=(4, 3, 2)) + [1.0, 0.0]).estimate(
        lambda m: (m[..., 0] - m[..., 1]).mean(-1)
    )
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < 0.1
    assert found.above_zero


def test_too_little_data_has_no_interval():
    for values in (np.ones((1, 1, 2)), np.array([[[1.0, 2.0], [1.1, 2.1]]]), np.ones((3, 3, 2))):
        found = resample(values).estimate(lambda m: m[..., 0].mean(-1))
        assert found is not None
        assert found.low is None
        assert found.holds(1e9)
        assert "no interval" in found.text()


def test_missing_values_are_left_out_of_means_and_draws():
    values = np.arange(12.0).reshape(2, 3, 2)
    values[0, 1, 0] = np.nan
    values[1, :, 1] = np.nan
    made = resample(values)
    assert made.means[0].tolist() == [2.0, 3.0]
    assert math.isnan(made.means[1, 1])
    assert np.isfinite(made.draws[:, 0]).all()
    assert made.estimate(lambda m: m[..., 1, 1]) is None


def test_a_run_that_is_not_finished_is_no_surer_than_a_finished_one():
    """Most cells have one seed so far: what is known of the spread comes from few deviations, and the interval says
    so.
    """
    rng = np.random.default_rng(0)
    misses, widths = [], []
    for _ in range(REPEATS):
        values = rng.normal(size=(4, 3, 3))
        whole = resample(values).estimate(lambda m: (m[..., 1] - m[..., 0]).mean(-1))
        values[2:, 1:] = np.nan
        values[0, 2, 1:] = np.nan
        part = resample(values).estimate(lambda m: (m[..., 1] - m[..., 0]).mean(-1))
        assert part is not None
        misses.append(part)
        assert whole is not None
        widths.append(part.low is None or part.high - part.low > whole.high - whole.low)
    assert missed(misses) <= 0.12
    assert np.mean(widths) > 0.7
    values[:, 1:, 2] = np.nan
    alone = resample(values).estimate(lambda m: m[..., 2].mean(-1))
    assert alone is not None
    assert alone.low is None


def test_the_same_numbers_give_the_same_draws():
    values = np.random.default_rng(3).normal(size=(2, 4, 3))
    assert np.array_equal(resample(values).draws, resample(values.copy()).draws)


def test_the_interval_is_that_of_student_for_a_mean_of_many_seeds():
    values = np.random.default_rng(5).normal(size=(1, 60, 1))
    found = resample(values).estimate(lambda m: m[..., 0, 0])
    low, high = stats.t.interval(0.95, 59, values.mean(), stats.sem(values.ravel()))
    assert found is not None
    assert found.low == pytest.approx(low, abs=0.04)
    assert found.high == pytest.approx(high, abs=0.04)


def test_correlation_is_that_of_scipy_with_fishers_interval():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    found = correlation(list(x), list(y))
    assert found is not None
    expected = stats.pearsonr(x, y)
    assert found.pearson.value == pytest.approx(expected.statistic)
    interval = expected.confidence_interval(0.95)
    assert (found.pearson.low, found.pearson.high) == pytest.approx((interval.low, interval.high))
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.spearman.holds(found.spearman.value)


def test_within_groups_what_the_groups_differ_in_is_gone():
    """Simpson's paradox: tied downwards within every group, upwards over all."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(5), 6)
    inside = rng.normal(size=30)
    x, y = 10.0 * groups + inside, 10.0 * groups - inside + 0.1 * rng.normal(size=30)
    over, within = correlation(list(x), list(y)), correlation(list(x), list(y), list(groups))
    assert over is not None
    assert within is not None
    assert over.pearson.above_zero
    assert within.pearson.below_zero


@pytest.mark.parametrize("grouped", [False, True])
def test_noise_is_called_a_correlation_about_one_time_in_twenty(grouped):
    rng = np.random.default_rng(7)
    groups = list(np.repeat(np.arange(6), 3))
    found = [
        correlation(list(rng.normal(size=18)), list(rng.normal(size=18)), groups if grouped else None)
        for _ in range(REPEATS)
    ]
    for kind in ("pearson", "spearman"):
        assert 0.015 <= missed([getattr(c, kind) for c in found]) <= 0.09


def test_few_or_constant_values_have_no_correlation():
    assert correlation([], [], []) is None
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4]) is None
    assert correlation([1.0] * 9, list(range(9))) is None
    assert correlation(list(range(8)), list(range(8)), [0, 0, 1, 1, 2, 2, 3, 3]) is not None
    assert correlation(list(range(6)), [1, 5, 2, 4, 3, 6], [0, 0, 1, 1, 2, 2]) is None


def test_kendall_and_slope_are_those_of_scipy_and_numpy():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 6, size=(2, 5, 9)).astype(float)
    assert kendall(x, y) == pytest.approx([stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)])
    t = rng.normal(size=9)
    assert slope(t, y) == pytest.approx([np.polyfit(t, row, 1)[0] for row in y])
    assert math.isnan(float(slope(np.ones(4), np.arange(4.0))))


def test_an_estimate_never_leaves_its_interval():
    """Also where the statistic is a bound of its draws."""
    values = np.random.default_rng(9).normal(size=(2, 5, 2))
    made = resample(values)
    for statistic in (lambda m: np.abs(m - made.means).sum((-1, -2)), lambda m: -np.abs(m - made.means).sum((-1, -2))):
        found = made.estimate(statistic)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value == 0 <= found.high
        assert found.low < found.high


@pytest.mark.parametrize("spreads", [(1, 1, 1), (0.2, 1, 3)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_one_group_alone_has_students_interval_whatever_the_others_do(spreads, seeds):
    """Of a difference of two columns: the paired t-interval."""
    values = np.random.default_rng(seeds).normal(size=(3, seeds, 2)) * np.array(spreads)[:, None, None]
    found = resample(values).estimate(lambda m: m[..., 2, 0] - m[..., 2, 1])
    difference = values[2, :, 0] - values[2, :, 1]
    low, high = stats.t.interval(0.95, seeds - 1, difference.mean(), stats.sem(difference))
    assert found is not None
    assert found.low == pytest.approx(low, abs=0.08 * (high - low))
    assert found.high == pytest.approx(high, abs=0.08 * (high - low))


def test_groups_that_spread_alike_share_their_degrees_of_freedom():
    values = np.tile(np.array([[-1.0, 0.0, 1.0]]).T, (6, 1, 1)).reshape(6, 3, 1)
    made = resample(values)
    for count in (1, 2, 6):
        moved = made.draws[:, :count, 0].mean(1)
        assert made.freedom(moved - moved.mean()) == pytest.approx(2 * count, rel=0.15)


def test_a_cell_of_one_seed_is_as_unsure_as_its_group_and_its_column():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(3, 6, 3)) * np.array([1, 1, 20])[:, None, None]
    values[2, 1:, 0] = np.nan
    made = resample(values)
    spread = (made.draws[:, 2, 0] - made.means[2, 0]).std()
    assert spread > 10
    alone = values.copy()
    alone[:, 1:, 0] = np.nan
    assert np.isnan(resample(alone).draws[:, :, 0]).all()


@pytest.mark.parametrize(
    ("low", "high", "lies"), [(-1, 1, True), (0.2, 1, False), (-1, 0.4, False), (-math.inf, 1, True)]
)
def test_an_interval_lies_between_two_values_as_a_whole(low, high, lies):
    assert Estimate(0.3, 0.1, 0.5).lies(low, high) is lies
    assert not Estimate(0.3).lies(low, high)


def test_an_interval_is_cut_to_what_is_possible():
    assert Estimate(0.9, 0.2, 1.4).within(-1, 1) == Estimate(0.9, 0.2, 1)
    assert Estimate(0.9).within(-1, 1) == Estimate(0.9)
