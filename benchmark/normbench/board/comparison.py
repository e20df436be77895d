"""Two entries of a board, by the board's own rule; seed by seed where one looks closer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr
from scipy.stats import studentized_range

from normbench.board.metric import Metric
from normbench.board.stats import CONFIDENCE, Interval
from normbench.board.types import Board, Entry, why_not_compared
from normbench.board.variances import Array

UNDECIDED = "cannot be told apart"


@dataclass(frozen=True)
class Pair:
    """One seed that both entries have."""

    seed: int
    a: float
    b: float

    @property
    def difference(self) -> float:
        return self.a - self.b


@dataclass(frozen=True)
class Comparison:
    """Entry `a` minus entry `b` in one metric."""

    metric: Metric
    pairs: tuple[Pair, ...]
    mean: float | None
    """Difference of the means; where seeds are missing, of the means as they would be over all seeds of the board. None
    where one entry has no value.
    """
    interval: Interval | None = None
    """Holds the difference, together with all others of the board, in 95 of 100 cases. It leaves out 0 exactly where
    the two intervals on the board do not overlap.
    """
    p: float | None = None
    """Of the whole board's rule; at most .05 exactly where the two are told apart."""
    why: str = ""
    """Why the two are not compared; empty where they are."""
    methods: int = 2
    """Entries of the board that are compared with each other."""

    @property
    def turned(self) -> Comparison:
        """Entry `b` minus entry `a`."""
        pairs = tuple(replace(p, a=p.b, b=p.a) for p in self.pairs)
        interval = self.interval and replace(self.interval, low=-self.interval.high, high=-self.interval.low)
        return replace(self, pairs=pairs, mean=None if self.mean is None else -self.mean, interval=interval)

    @property
    def verdict(self) -> str:
        """`higher`, `lower` (a against b), `cannot be told apart`, or why they are not compared."""
        if self.why:
            return self.why
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return UNDECIDED
        return "higher" if self.interval.low > 0 else "lower"

    def beyond(self, error: float) -> bool:
        """Whether the two are told apart also if other test images had been drawn. error: see `image_error`.

        Both sources of chance are independent: the half-width from seeds, and the normal one from images, simultaneous
        over the board too, are added as squares.
        """
        if self.mean is None or self.verdict not in {"higher", "lower"} or self.interval is None:
            return False
        return abs(self.mean) > math.hypot(self.interval.half, _simultaneous(self.methods) * error)


def by_image(outcomes: Sequence[bytes], total: int) -> Array:
    """(total,): how often each test image is right, over the trials of an entry. outcomes: of each trial, packed as
    `numpy.packbits` does.
    """
    bits = [np.unpackbits(np.frombuffer(packed, np.uint8), count=total) for packed in outcomes]
    found: Array = np.mean(bits, axis=0)
    return found


def image_error(a: Array, b: Array) -> float:
    """Standard error of the difference of two accuracies that comes from the draw of the test images; a, b: see
    `by_image`. The images are shared, so that only those count on which the two differ.
    """
    return float(np.std(a - b, ddof=1)) / math.sqrt(len(a)) if len(a) > 1 else math.inf


def image_errors(shares: Sequence[Array]) -> Array:
    """(entries, entries): `image_error` of each pair. shares: of each entry, see `by_image`."""
    table = np.array(shares)
    images = table.shape[1]
    if images < 2:
        return np.full((len(table), len(table)), math.inf)
    common = np.atleast_2d(np.cov(table))
    own = common.diagonal()
    found: Array = np.sqrt(np.maximum(own[:, None] + own - 2 * common, 0.0) / images)
    return found


def discordant_pairs(packed: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """(networks, networks): how many images only the network of the row has right, and not that of the column. packed:
    outcomes of each network on the same images, see `normbench.board.stats.discordant`.
    """
    right = np.unpackbits(np.array([np.frombuffer(bits, np.uint8) for bits in packed]), axis=1).astype(np.float32)
    both = (right @ right.T).astype(np.int64)  # exact: fewer images than float32 has whole numbers
    return both.diagonal()[:, None] - both


def mcnemar_pairs(only: npt.NDArray[np.int64]) -> Array:
    """(networks, networks): `normbench.board.stats.mcnemar` of each pair. only: see `discordant_pairs`."""
    found: Array = np.minimum(1.0, 2 * bdtr(np.minimum(only, only.T), only + only.T, 0.5))
    return found


@cache
def _simultaneous(methods: int) -> float:
    """Quantile of the largest difference of so many normal means, in standard errors of a difference (Tukey)."""
    return float(studentized_range.ppf(CONFIDENCE, methods, np.inf)) / math.sqrt(2)


def compare(board: Board, a: Entry, b: Entry, metric: Metric) -> Comparison:
    """Entry `a` of the board minus entry `b`."""
    one, other = a.cells.get(metric.key), b.cells.get(metric.key)
    if one is None or other is None:
        return Comparison(metric, (), None, why=why_not_compared(a, b, metric))
    values = {p.seed: p.value for p in other.points}
    pairs = tuple(Pair(p.seed, p.value, values[p.seed]) for p in one.points if p.seed in values)
    why = why_not_compared(a, b, metric)
    mine, its = one.standing, other.standing
    if why or mine is None or its is None or mine.interval is None or its.interval is None:
        return Comparison(metric, pairs, one.value - other.value, why=why)
    ranking = board.rankings[metric.key]
    interval = Interval(mine.interval.low - its.interval.high, mine.interval.high - its.interval.low, "comparison")
    tested = sum(s.interval is not None for s in ranking.standings)
    return Comparison(metric, pairs, interval.middle, interval, ranking.p(mine, its), methods=tested)


def against(board: Board, reference: Entry, metric: Metric) -> list[tuple[Entry, Comparison]]:
    """Every other entry of the board minus `reference`, in the order of `board.standings`."""
    return [(e, compare(board, e, reference, metric)) for e in board.standings(metric) if e.id != reference.id]


def each_other(board: Board, metric: Metric) -> Mapping[tuple[str, str], Comparison]:
    """Every pair of entries once, in the board's order, by their ids: the first minus the second."""
    return {(a.id, b.id): compare(board, a, b, metric) for a, b in combinations(board.entries, 2)}


def told_apart(board: Board, metric: Metric) -> tuple[int, int]:
    """How many pairs of entries are told apart, of how many that are compared."""
    made = [c for c in each_other(board, metric).values() if not c.why]
    return sum(c.verdict != UNDECIDED for c in made), len(made)
