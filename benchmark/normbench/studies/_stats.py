"""Statistics of studies: resampled means, contrasts, correlations. Pure functions of numbers; 95 % throughout, and the
same draws every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from normbench.board import Comparison, Metric, Pair, differences, untested
from normbench.board.stats import CONFIDENCE, Interval

Array = npt.NDArray[np.float64]

#: Times that seeds are drawn again. The ends of a 95 % interval then move by about 3 % of its length with other draws.
DRAWS = 2000
#: Degrees of freedom below which there is no interval: those of three seeds.
LEAST = 2
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
Z = float(stats.norm.ppf(TAILS[1]))


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; both ends None where there is too little data for one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, interval: Interval | None) -> Estimate:
        return cls(value, interval.low, interval.high) if interval else cls(value)

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high is not None and self.high < 0

    def holds(self, value: float) -> bool:
        """Whether the interval holds `value`; without an interval everything is possible."""
        return self.low is None or self.high is None or self.low <= value <= self.high

    def text(self, factor: float = 1.0, digits: int = 2, *, sign: bool = False) -> str:
        """`1.20 [0.31, 2.09]`, or `1.20 (no interval)`."""
        plus = "+" if sign else ""
        shown = f"{self.value * factor:{plus}.{digits}f}"
        if self.low is None or self.high is None:
            return f"{shown} (no interval)"
        return f"{shown} [{self.low * factor:{plus}.{digits}f}, {self.high * factor:{plus}.{digits}f}]"


def together(metric: Metric, families: Sequence[Sequence[Pair]]) -> list[Comparison]:
    """Each family's mean difference over its seeds, all of them judged at once by the rule of boards."""
    found = differences([[p.difference for p in pairs] for pairs in families])
    return [
        Comparison(
            metric, tuple(pairs), d.mean if pairs else None, d.interval, d.p, untested(len(pairs), "seed in common")
        )
        for pairs, d in zip(families, found, strict=True)
    ]


@dataclass(frozen=True)
class Resampled:
    """Means of groups by column, and the same after drawing the seeds again.

    means: (groups, columns), NaN where a cell has no value; draws: (DRAWS, groups, columns); freedom: degrees of
    freedom of the spread between seeds.
    """

    means: Array
    draws: Array
    freedom: int

    def estimate(self, statistic: Callable[[Array], Array]) -> Estimate | None:
        """A statistic of the means with its interval; None where it is not defined. `statistic` maps (..., groups,
        columns) to (...).

        The ends are the percentiles of the statistic over the draws; their distances from the value are widened from
        the normal to Student's t quantile, since the spread is estimated from few seeds.
        """
        value = float(statistic(self.means))
        if not math.isfinite(value):
            return None
        if self.freedom < LEAST:
            return Estimate(value)
        drawn = statistic(self.draws)
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) < DRAWS // 2 or np.ptp(drawn) <= 1e-12 * max(
            1.0, abs(value)
        ):  # the seeds do not vary: the spread cannot be estimated
            return Estimate(value)
        low, high = np.quantile(drawn, TAILS)
        return Estimate(
            value,
            value - self.widening * max(0.0, value - float(low)),
            value + self.widening * max(0.0, float(high) - value),
        )

    @property
    def widening(self) -> float:
        """Student's t quantile over the normal one: what an interval from a spread of so few degrees of freedom is too
        short by.
        """
        return float(stats.t.ppf(TAILS[1], self.freedom)) / Z


def resample(values: Array, seed: int = 0) -> Resampled:
    """Draw the seeds of every group again.

    values: (groups, seeds, columns), NaN where missing. A seed's deviations from its group's means are kept together
    over the columns, since its numbers share a cause, and pooled over the groups; those of a group of n seeds are
    scaled by sqrt(n / (n - 1)). Where a drawn seed lacks a column, another deviation of that column stands in; a column
    without any deviation has no draws, and nothing that rests on it has an interval.
    """
    counts = np.isfinite(values).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(values, axis=1) / np.where(counts, counts, np.nan)
        scale = np.sqrt(counts / (counts - 1.0))
        deviations = (values - means[:, None]) * np.where(counts > 1, scale, np.nan)[:, None]
    pool = deviations.reshape(-1, values.shape[2])
    pool = pool[np.isfinite(pool).any(axis=1)]
    freedom = np.maximum(counts - 1, 0).sum(axis=0)
    if not len(pool):
        return Resampled(means, means[None], 0)
    generator = np.random.default_rng(seed)
    draws = np.empty((DRAWS, *means.shape))
    for g in range(len(means)):
        seeds = max(int(counts[g].max()), 1)
        picked = pool[generator.integers(len(pool), size=(DRAWS, seeds))]
        for column in np.flatnonzero(np.isnan(pool).any(axis=0) & (freedom > 0)):
            missing = np.isnan(picked[..., column])
            picked[..., column][missing] = generator.choice(
                pool[np.isfinite(pool[:, column]), column], int(missing.sum())
            )
        used = np.arange(seeds)[:, None] < counts[g]
        draws[:, g] = means[g] + np.where(used, picked, 0.0).sum(axis=1) / np.maximum(counts[g], 1)
    return Resampled(means, draws, int(freedom[freedom > 0].min()))


@dataclass(frozen=True)
class Correlation:
    """Correlation of two quantities over n units."""

    pearson: Estimate
    spearman: Estimate
    n: int


def correlation(x: Sequence[float], y: Sequence[float], groups: Sequence[object] | None = None) -> Correlation | None:
    """Pearson and Spearman correlation with Fisher's interval; within `groups` where they are given: both quantities
    less their group's mean.

    Each group's mean costs a degree of freedom. Spearman's standard error is that of Bonett and Wright 2000. None where
    either does not vary or fewer than four degrees of freedom are left.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    names = list(dict.fromkeys(groups)) if groups is not None else []
    freedom = len(a) - max(len(names) - 1, 0)
    if groups is not None:
        member = np.array([names.index(g) for g in groups])
        a, b = (v - np.array([v[member == i].mean() for i in range(len(names))])[member] for v in (a, b))
    if freedom < 5 or min(np.ptp(a), np.ptp(b)) <= 1e-12 * max(1.0, float(np.abs(a).max()), float(np.abs(b).max())):
        return None
    pearson, spearman = float(stats.pearsonr(a, b).statistic), float(stats.spearmanr(a, b).statistic)
    return Correlation(
        _fisher(pearson, 1.0, freedom), _fisher(spearman, math.sqrt(1 + spearman**2 / 2), freedom), len(a)
    )


def _fisher(r: float, inflation: float, n: int) -> Estimate:
    r = min(max(r, -1 + 1e-12), 1 - 1e-12)
    half = Z * inflation / math.sqrt(n - 3)
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def slope(x: Array, y: Array) -> Array:
    """Least squares slope of y (..., n) on x (n,); NaN where x does not vary."""
    centred = x - x.mean()
    total = float((centred**2).sum())
    found: Array = (y * centred).sum(-1) / (total or math.nan)
    return found


def kendall(x: Array, y: Array) -> Array:
    """Kendall's tau-b of x and y (..., n) along the last axis; NaN where either is constant."""
    first, second = np.triu_indices(x.shape[-1], 1)
    a, b = np.sign(x[..., first] - x[..., second]), np.sign(y[..., first] - y[..., second])
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    found: Array = (a * b).sum(-1) / np.where(norm, norm, np.nan)
    return found
