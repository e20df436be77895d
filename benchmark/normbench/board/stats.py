"""Intervals, tied ranks and tests of one pair of networks. Pure functions of numbers; 95 % throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtri, stdtrit

#: Two-sided confidence of every interval.
CONFIDENCE = 0.95
#: Fewer seeds than this give dots and no interval: with two, the t quantile is 12.7 and the interval says nothing.
MIN_SEEDS = 3


@dataclass(frozen=True)
class Interval:
    """A 95 % interval. `covers` names what it is about: the mean over `seeds`, the share over `test images`, the
    estimate from `random vectors`, or the `comparison` with others (see `normbench.board.ranking`).
    """

    low: float
    high: float
    covers: str

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def middle(self) -> float:
        return (self.high + self.low) / 2

    def within(self, low: float, high: float) -> Interval:
        """What of it lies between `low` and `high`."""
        return Interval(min(max(self.low, low), high), max(min(self.high, high), low), self.covers)

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Rank:
    """The ranks that an entry may have: best and worst, of so many."""

    best: int
    worst: int
    of: int

    @property
    def text(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


def wilson(correct: float, total: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927): the uncertainty from having `total` test images for one
    network.
    """
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    p = correct / total
    denominator = 1 + z * z / total
    centre = (p + z * z / (2 * total)) / denominator
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / denominator
    # At both ends the bound is exactly 0 or 1; rounding must not push it inside.
    return Interval(max(0.0, centre - half) if p > 0 else 0.0, min(1.0, centre + half) if p < 1 else 1.0, "test images")


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's t-interval of the mean over seeds; None under `MIN_SEEDS` values or where they do not vary at all."""
    n = len(values)
    if n < MIN_SEEDS:
        return None
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    if spread <= 1e-12 * max(1.0, abs(mean)):  # equal up to rounding: the spread cannot be estimated
        return None
    return student(mean, spread / math.sqrt(n), n - 1, "seeds")


def student(mean: float, error: float, freedom: int, covers: str) -> Interval:
    """Student's t-interval of a mean from its standard error, which has so many degrees of freedom: one less than the
    values that it is of.
    """
    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    return Interval(mean - half, mean + half, covers)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value from the numbers of images that only one of two networks has right (McNemar
    1947).
    """
    n = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5))) if n else 1.0


def discordant(a: bytes, b: bytes) -> tuple[int, int]:
    """From packed outcomes of two networks on the same images: how many only the first, and only the second, has
    right.
    """
    x, y = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    return int(np.bitwise_count(x & ~y).sum()), int(np.bitwise_count(y & ~x).sum())


def ranks(intervals: Sequence[Interval | None]) -> list[Rank]:
    """Rank intervals, larger being better: best = 1 + how many lie wholly above, worst = how many do not lie wholly
    below.

    Without an interval an entry lies neither above nor below any other.
    """
    lows = sorted(i.low for i in intervals if i)
    highs = sorted(i.high for i in intervals if i)
    count = len(intervals)
    found = []
    for interval in intervals:
        if interval is None:
            found.append(Rank(1, count, count))
            continue
        above = len(lows) - int(np.searchsorted(lows, interval.high, side="right"))
        below = int(np.searchsorted(highs, interval.low, side="left"))
        found.append(Rank(1 + above, count - below, count))
    return found
