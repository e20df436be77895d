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
from normbench.board.variances import variances

Array = npt.NDArray[np.float64]

#: Times that means are drawn. The ends of a 95 % interval then move by about 3 % of its length with other draws.
DRAWS = 2000
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
Z = float(stats.norm.ppf(TAILS[1]))
#: An effect is found in 80 of 100 repetitions where it is 1 + .84 / 1.96 times the half-width of a 95 % interval.
FOUND = 1 + 0.8416 / 1.9600


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

    def lies(self, low: float, high: float) -> bool:
        """Whether the whole interval lies between `low` and `high`."""
        return self.low is not None and self.high is not None and low < self.low and self.high < high

    def times(self, factor: float) -> Estimate:
        """The same in another unit; factor: above zero."""
        ends = (None if v is None else factor * v for v in (self.low, self.high))
        return Estimate(factor * self.value, *ends)

    def within(self, low: float, high: float) -> Estimate:
        """The same with what of its interval lies between `low` and `high`."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, low), min(self.high, high))

    def text(self, factor: float = 1.0, digits: int = 2, *, sign: bool = False) -> str:
        """`1.20 [0.31, 2.09]`, or `1.20 (no interval)`."""
        plus = "+" if sign else ""
        shown = f"{self.value * factor:{plus}.{digits}f}"
        if self.low is None or self.high is None:
            return f"{shown} (no interval)"
        return f"{shown} [{self.low * factor:{plus}.{digits}f}, {self.high * factor:{plus}.{digits}f}]"


def seeds_needed(distance: float, half: float, n: int) -> int | None:
    """Seeds that would decide in 80 of 100 repetitions whether a number lies on this side of a bound, were its value
    true and its spread as seen; None where it lies at the very bound, or nothing is over seeds.

    distance: from the value to the bound. half: of the interval's length, over `n` seeds.
    """
    if not n or distance == 0 or not math.isfinite(half):
        return None
    return max(n + 1, math.ceil(n * (FOUND * half / distance) ** 2))


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
    """Means of groups by column, and the means that other seeds might have given."""

    means: Array
    """(groups, columns), NaN where a cell has no value."""
    draws: Array
    """(DRAWS, groups, columns). What a cell's spread cannot be known of is NaN."""
    counts: npt.NDArray[np.int_]
    """(groups, columns): seeds of each cell."""
    weights: Array
    """(DRAWS, groups, seeds): how much of each seed's deviations is in a draw."""

    @property
    def why(self) -> str:
        """Why nothing has an interval: `not tested: 2 seeds, 3 needed`. Empty where there are enough seeds."""
        return untested(int(self.counts.max(initial=0)))

    def estimate(self, statistic: Callable[[Array], Array]) -> Estimate | None:
        """A statistic of the means with its interval; None where it is not defined. `statistic` maps (..., groups,
        columns) to (...).

        The ends are the percentiles of the statistic over the draws. Their distances from the value are widened from
        the normal to Student's t quantile, since spreads are estimated from few seeds: see `freedom`.
        """
        value = float(statistic(self.means))
        if not math.isfinite(value):
            return None
        if self.why:
            return Estimate(value)
        drawn = statistic(self.draws)
        there = np.isfinite(drawn)
        known = drawn[there]
        # Where no draw moves, the seeds do not vary, and the spread cannot be estimated.
        if len(known) < DRAWS // 2 or np.ptp(known) <= 1e-12 * max(1.0, abs(value)):
            return Estimate(value)
        low, high = np.quantile(known, TAILS)
        wider = float(stats.t.ppf(TAILS[1], self.freedom(np.where(there, drawn - known.mean(), 0.0)))) / Z
        return Estimate(
            value, value - wider * max(0.0, value - float(low)), value + wider * max(0.0, float(high) - value)
        )

    def freedom(self, moved: Array) -> float:
        """Degrees of freedom of the spread of a statistic, by Satterthwaite (1946, doi:10.2307/3002019).

        moved: (DRAWS,), the statistic less its mean. It has those of a single group where one group alone moves it, and
        those of all groups together where all move it alike. How much each does is read off the draws.
        """
        count, groups, seeds = self.weights.shape
        loads = np.einsum("d,dgs->gs", moved, self.weights) / count
        # A square of a load that is 0 comes out as 1 / DRAWS of the whole variance.
        parts = np.maximum((loads**2).sum(1) - seeds * float(np.mean(moved**2)) / count, 0.0)
        freedoms = np.array([self._freedom(g, moved) for g in range(groups)])
        if not parts.any():  # the statistic does not follow the means on average, as a best cell of equal ones
            return float(freedoms.min())
        return float(parts.sum() ** 2 / (parts**2 / freedoms).sum())

    def _freedom(self, group: int, moved: Array) -> float:
        """Of one group: its seeds less one; where its cells differ in that, a mean over the cells that matter."""
        freedoms = self.counts[group] - 1.0
        if not (freedoms > 0).any():
            return math.inf
        if np.ptp(freedoms[freedoms > 0]) == 0:
            return float(freedoms.max())
        own = self.draws[:, group, freedoms > 0] - self.means[group, freedoms > 0]
        ties = np.square(moved @ own) / np.maximum((own**2).sum(0), np.finfo(float).tiny)
        return float(ties.sum() / (ties / freedoms[freedoms > 0]).sum()) if ties.any() else 1.0


def resample(values: Array, seed: int = 0) -> Resampled:
    """Draw means that other seeds might have given.

    values: (groups, seeds, columns), NaN where missing. A draw adds to a group's means its own seeds' deviations, each
    times a normal number that all columns share, since a seed's numbers share a cause. So the draws have the group's
    own variances and correlations, whatever those of the other groups are. A cell of one seed says nothing of its
    spread: its deviation is drawn from what the spreads of its group or those of its column say, whichever is more
    (`normbench.board.variances`). Where one of the two says nothing, neither has the cell draws, and nothing that rests
    on it has an interval.
    """
    there = np.isfinite(values)
    counts = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(counts, np.where(there, values, 0.0).sum(axis=1) / counts, np.nan)
    left = np.where(there, values - means[:, None], 0.0)
    generator = np.random.default_rng(seed)
    half = generator.standard_normal((DRAWS // 2, *values.shape[:2]))
    weights = np.concatenate([half, -half])
    draws = means + np.einsum("dgs,gsc->dgc", weights, left / np.sqrt(np.maximum(counts * (counts - 1), 1))[:, None])
    for group, column in np.argwhere(counts == 1):
        squares, freedoms = (left**2).sum(axis=1), np.maximum(counts - 1.0, 0.0)
        spread = np.maximum(
            _borrowed(squares[group], freedoms[group], column, generator),
            _borrowed(squares[:, column], freedoms[:, column], group, generator),
        )
        draws[:, group, column] += spread * generator.standard_normal(DRAWS)
    return Resampled(means, draws, counts, weights)


def _borrowed(squares: Array, freedoms: Array, place: int, generator: np.random.Generator) -> Array:
    """(DRAWS,): standard deviations that a cell of one seed may have, by the cells of its row or column; NaN where none
    of them varies. squares, freedoms: (cells,), that one's at `place`.
    """
    believed = variances(squares, freedoms) if freedoms.any() else None
    if believed is None:
        return np.full(DRAWS, np.nan)
    found: Array = np.sqrt(believed.draw(DRAWS, generator)[:, place].astype(float))
    return found


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
    if freedom < 5:
        return None
    if groups is not None:
        member = np.array([names.index(g) for g in groups])
        a, b = (v - np.array([v[member == i].mean() for i in range(len(names))])[member] for v in (a, b))
    if min(np.ptp(a), np.ptp(b)) <= 1e-12 * max(1.0, float(np.abs(a).max()), float(np.abs(b).max())):
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
