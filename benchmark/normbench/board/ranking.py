"""One rule for what is apart: boards, comparisons, the terminal, `bench rank` and the front page all ask it.

Each method of a board gets an interval around its mean. Two methods are told apart exactly where their intervals do not
overlap. All half-widths are one factor times the standard error of a method's mean, and the factor is so large that, of
boards on which no two methods differ, at most one in twenty has a pair that is told apart.

The standard errors are without the effect that a seed has on all methods, and moderated between methods (see
`normbench.board.variances`). The factor is the 95 % quantile of the largest |difference| / (sum of both standard
errors) over all pairs, drawn from what the variances may be. It is found step by step: pairs that are apart are left
out, and the quantile is taken again over the others (Romano and Wolf 2005, doi:10.1198/016214504000000539), until no
further pair is apart. As the factor only falls, one factor describes all decisions. Rank intervals follow: best is 1 +
how many are surely better, worst is the number of methods less how many are surely worse; they hold for the whole board
at once (Mogstad, Romano, Shaikh and Wilhelm 2024, doi:10.1093/restud/rdad006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from normbench.board.stats import CONFIDENCE, MIN_SEEDS, Interval, Rank, ranks
from normbench.board.variances import Array, TwoWay, Variances, two_way, variances

Drawn = npt.NDArray[np.float32]

#: Boards drawn to find the factor, at least, and the numbers drawn for smaller boards.
DRAWS, _NUMBERS = 2000, 40_000
#: Intervals that a further step may look at, over all sets of them that overlap. A board that needs more (hundreds of
#: methods, few apart) keeps the factor it has, which is the larger one.
_STEP = 20_000
#: Up to so many methods it takes less time to look at each pair than to search for the widest.
_PAIRS = 40


@dataclass(frozen=True)
class Standing:
    """Where one method stands on a board."""

    mean: float
    """Of its own seeds."""
    n: int
    """How many those are."""
    interval: Interval | None = None
    """None where it has too few seeds, or nothing varies. Its middle is the mean over all seeds of the board."""
    rank: Rank | None = None
    error: float = math.nan
    """Standard error of the mean, without the effect of the seeds, moderated between methods."""


@dataclass(frozen=True)
class Ranking:
    """Standings in the order of the methods given."""

    standings: tuple[Standing, ...]
    factor: float
    """Half-width of each interval in standard errors; NaN where no interval is."""
    largest: Drawn = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)
    """Drawn sizes, ascending, that the largest |difference| / (sum of standard errors) has if no pair differs."""

    def p(self, a: Standing, b: Standing) -> float | None:
        """Share of drawn boards without any difference whose widest pair is as far apart as `a` and `b`: at most .05
        exactly where the two are told apart. None where one of them has no interval.
        """
        if a.interval is None or b.interval is None:
            return None
        return _share(self.largest, abs(a.interval.middle - b.interval.middle) / (a.error + b.error))


@dataclass(frozen=True)
class Difference:
    """One of several differences that are judged together."""

    mean: float
    interval: Interval | None
    p: float | None


def rank(values: Sequence[Mapping[int, float]], resolution: float = 0.0) -> Ranking:
    """Rank methods of which more is better.

    values: of each method, its value by seed. resolution: the step between two possible values (1 / images for an
    accuracy), 0 where that is not known. Methods of fewer than `MIN_SEEDS` seeds have no interval and no rank; a single
    other one is first of one, without an interval for comparison.
    """
    plain = [Standing(math.fsum(v.values()) / len(v) if v else math.nan, len(v)) for v in values]
    tested = [i for i, v in enumerate(values) if len(v) >= MIN_SEEDS]
    # The draws must not depend on the order in which methods are given.
    tested.sort(key=lambda i: sorted(values[i].items()))
    seeds = sorted({seed for i in tested for seed in values[i]})
    table = np.array([[values[i].get(seed, math.nan) for seed in seeds] for i in tested], float)
    if len(tested) == 1:
        plain[tested[0]] = replace(plain[tested[0]], rank=Rank(1, 1, 1))
    found = _fit(table, resolution) if len(tested) > 1 else None
    if found is None:
        return Ranking(tuple(plain), math.nan)
    means, errors, drawn = found
    factor, largest = _factor(means, errors, drawn)
    intervals = [_around(m, factor * e) for m, e in zip(means, errors, strict=True)]
    for i, interval, own, error in zip(tested, intervals, ranks(intervals), errors, strict=True):
        plain[i] = replace(plain[i], interval=interval, rank=own, error=float(error))
    return Ranking(tuple(plain), factor, largest)


def differences(values: Sequence[Sequence[float]]) -> list[Difference]:
    """Mean differences, each with an interval that covers it, all of them together in 95 of 100 cases.

    values: of each difference, its value in each seed. The same rule as for boards: variances moderated over the
    differences, and the quantile of the largest |difference| / (standard error). A single one is Student's paired test.
    """
    found = [Difference(math.fsum(v) / len(v) if v else math.nan, None, None) for v in values]
    tested = [i for i, v in enumerate(values) if len(v) >= MIN_SEEDS]
    tested.sort(key=lambda i: sorted(values[i]))
    counts = np.array([len(values[i]) for i in tested], float)
    means = np.array([found[i].mean for i in tested])
    squares = np.array([math.fsum((v - found[i].mean) ** 2 for v in values[i]) for i in tested])
    scale = max((abs(v) for i in tested for v in values[i]), default=0.0) or 1.0
    squares[squares <= (1e-12 * scale) ** 2] = 0.0
    believed = variances(squares, counts - 1) if tested else None
    if believed is None:
        return found
    errors = np.sqrt(believed.likely / counts)
    drawn, sizes = _errors(believed, counts, np.zeros(len(tested))) / errors.astype(np.float32), np.abs(means) / errors
    live = np.ones(len(tested), bool)
    while True:
        largest = np.sort(np.abs(drawn[:, live]).max(axis=1))
        factor = float(largest[_place(len(largest))])
        left = live & (sizes <= factor)
        if not left.any() or (left == live).all():
            break
        live = left
    for i, mean, error, size in zip(tested, means, errors, sizes, strict=True):
        found[i] = Difference(float(mean), _around(mean, factor * error), _share(largest, size))
    return found


def _around(middle: float, half: float) -> Interval:
    return Interval(float(middle - half), float(middle + half), "comparison")


def _share(largest: Drawn, size: float) -> float:
    """Of the drawn sizes that reach `size`: see `_at_most`."""
    return _at_most(len(largest) - int(np.searchsorted(largest, size, side="left")), len(largest))


def _at_most(count: int, of: int) -> float:
    """A share and its standard error, at most 1: that few are drawn must not make boards bold."""
    share = count / of
    return min(1.0, share + math.sqrt(share * (1 - share) / of))


@cache
def _place(of: int) -> int:
    """Where the factor stands among drawn sizes in ascending order: what is larger has a share of at most 5 %."""
    return next(place for place in range(of) if _at_most(of - 1 - place, of) <= 1 - CONFIDENCE)


def _fit(table: Array, resolution: float) -> tuple[Array, Array, Drawn] | None:
    """Means and standard errors (methods,), and errors that means may have (draws, methods); None where nothing
    varies.
    """
    # A value between two steps falls on either: its variance is at most a quarter of the step's square.
    floor = resolution**2 / 4
    scale = float(np.nanmax(np.abs(table))) or 1.0
    fit = two_way(table, np.ones(len(table)))
    believed = _believed(fit, scale, floor)
    if believed is not None and len(table) > 2:
        # A method of large variance must not decide the effects of seeds, which are taken from all methods.
        fit = two_way(table, 1 / believed.likely)
        believed = _believed(fit, scale, floor)
    if believed is None:
        return None
    extra = fit.extra * (believed.likely[0] if len(table) == 2 else 1.0)
    errors = np.sqrt(believed.likely / fit.counts + extra)
    return fit.means, errors, _errors(believed, fit.counts, extra)


def _believed(fit: TwoWay, scale: float, floor: float) -> Variances | None:
    squares = np.where(fit.squares <= (1e-12 * scale) ** 2, 0.0, fit.squares)  # equal up to rounding
    # Of two methods only the sum of both variances decides, which is known without a prior: Student's paired test.
    return variances(squares, fit.freedoms, floor, equal=len(fit.means) == 2)


def _errors(believed: Variances, counts: Array, extra: Array) -> Drawn:
    """(draws, methods): errors that means may have; the same ones every time."""
    generator = np.random.default_rng(0)
    draws = max(DRAWS, _NUMBERS // len(counts))
    spread = np.sqrt(believed.draw(draws, generator) / counts.astype(np.float32) + extra.astype(np.float32))
    errors: Drawn = spread * generator.standard_normal(spread.shape, dtype=np.float32)
    return errors


def _factor(means: Array, errors: Array, drawn: Drawn) -> tuple[float, Drawn]:
    """The factor, and the drawn sizes of the largest pair at the step that gave it."""
    groups = [np.arange(len(means))]
    factor, largest = math.inf, np.zeros(len(drawn), np.float32)
    by_method = np.ascontiguousarray(drawn.T)
    while True:
        sizes = np.zeros(len(drawn), np.float32)
        for group in groups:
            np.maximum(sizes, _largest(by_method[group], errors[group].astype(np.float32)), out=sizes)
        place = _place(len(sizes))
        quantile = float(np.partition(sizes, place)[place])
        if quantile >= factor:
            return factor, largest
        factor, largest = quantile, np.sort(sizes)
        left = cliques(means - factor * errors, means + factor * errors)
        if not left or [len(g) for g in left] == [len(g) for g in groups] or sum(map(len, left)) > _STEP:
            return factor, largest
        groups = left


def _largest(drawn: Drawn, errors: Drawn) -> Drawn:
    """(draws,): the largest |difference| / (sum of errors) over all pairs; drawn: (methods, draws)."""
    return _of_pairs(drawn, errors) if len(drawn) <= _PAIRS else _of_many(drawn, errors)


def _of_pairs(drawn: Drawn, errors: Drawn) -> Drawn:
    """`_largest`, pair by pair: a method with all that come after it, in one step each."""
    ratio = np.zeros(drawn.shape[1], np.float32)
    for i in range(len(drawn) - 1):
        sizes = np.abs(drawn[i + 1 :] - drawn[i])
        sizes /= (errors[i + 1 :] + errors[i])[:, None]
        np.maximum(ratio, sizes.max(axis=0), out=ratio)
    return ratio


def _of_many(drawn: Drawn, errors: Drawn) -> Drawn:
    """`_largest` of many methods, whose pairs are too many to look at.

    A ratio's maximum by Dinkelbach's iteration (1967): the pair that exceeds the last ratio by most gives the next one,
    until none exceeds it.
    """
    rows = np.arange(drawn.shape[1])
    ratio = np.zeros(len(rows), np.float32)
    by_draw = np.ascontiguousarray(drawn.T)
    while len(rows):
        scaled = ratio[rows, None] * errors
        own = by_draw[rows]
        above, below = np.argmax(own - scaled, axis=1), np.argmin(own + scaled, axis=1)
        each = np.arange(len(rows))
        better = (own[each, above] - own[each, below]) / (errors[above] + errors[below])
        more = better > ratio[rows]
        rows = rows[more]
        ratio[rows] = better[more]
    return ratio


def cliques(lows: Array, highs: Array) -> list[npt.NDArray[np.intp]]:
    """Largest sets of two or more intervals that all overlap. Each pair that overlaps is in one of them."""
    ends = sorted([(low, False, i) for i, low in enumerate(lows)] + [(high, True, i) for i, high in enumerate(highs)])
    found, there, grew = [], set[int](), False
    for _, closes, i in ends:
        if closes:
            if grew and len(there) > 1:
                found.append(np.array(sorted(there)))
            there.discard(i)
        else:
            there.add(i)
        grew = not closes
    return found
