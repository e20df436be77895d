"""Intervals drawn to scale in the cells of a table: one axis for a column, on the range of its data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from normbench.board import Board, Cell, Metric
from normbench.pages.axes import fit

#: Drawing width of an interval, in units of its view box.
WIDTH, MARGIN = 176, 5
#: A mean is an outlier so many times the middle half of all means beyond that half (Tukey's fence). It is left off the
#: axis if that makes the axis at most this share as long.
FENCE, SHRUNK = 1.5, 0.75
#: The middle half of fewer means says nothing.
FEW = 5


@dataclass(frozen=True)
class Scale:
    """Both ends of the axis that a column of intervals shares."""

    low: float
    high: float
    metric: Metric

    def x(self, value: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / (self.high - self.low), 2)

    @property
    def texts(self) -> tuple[str, str]:
        factor = 100 if self.metric.share else 1
        return f"{self.low * factor:g}", f"{self.high * factor:g} {self.metric.unit}"


@dataclass(frozen=True)
class Strip:
    """One interval, drawn: the mean, both ends (None without an interval) and every seed. A mean beyond the axis is an
    arrow at its end with the number, and nothing else.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    beyond: str = ""
    """`lower` or `higher`, of a mean beyond the axis."""
    number: str = ""
    """That mean."""
    cut: tuple[float, ...] = ()
    """Ends of the axis beyond which the interval goes on."""


def strip(cell: Cell, scale: Scale) -> Strip:
    """What is drawn of one cell."""
    low, high = scale.low, scale.high
    if not low <= cell.value <= high:
        below = cell.value < low
        number = cell.metric.display(cell.value)
        return Strip(scale.x(low if below else high), None, None, (), "lower" if below else "higher", number)
    ends = (cell.interval.low, cell.interval.high) if cell.interval else None
    return Strip(
        scale.x(cell.value),
        scale.x(max(low, ends[0])) if ends else None,
        scale.x(min(high, ends[1])) if ends else None,
        tuple(scale.x(p.value) for p in cell.points if low <= p.value <= high),
        cut=tuple(scale.x(edge) for edge in (low, high) if ends and ends[0] < edge < ends[1]),
    )


def scale_for(board: Board, metric: Metric) -> Scale | None:
    """The axis of a column: it holds all that is drawn of the methods that are no outliers. None without a number."""
    cells = [e.cells[metric.key] for e in board.entries if metric.key in e.cells]
    if not cells:
        return None
    whole = scale_of([v for c in cells for v in _drawn(c)], metric)
    low, high = _fence([c.value for c in cells])
    part = scale_of([v for c in cells if low <= c.value <= high for v in _drawn(c)], metric)
    return part if part.high - part.low <= SHRUNK * (whole.high - whole.low) else whole


def _fence(means: Sequence[float]) -> tuple[float, float]:
    if len(means) < FEW:
        return -math.inf, math.inf
    low, _, high = statistics.quantiles(means, n=4, method="inclusive")
    return low - FENCE * (high - low), high + FENCE * (high - low)


def _drawn(cell: Cell) -> list[float]:
    return [p.value for p in cell.points] + ([cell.interval.low, cell.interval.high] if cell.interval else [])


def scale_of(values: Sequence[float], metric: Metric) -> Scale:
    """An axis that holds all `values`; accuracies within [0, 1]."""
    low, high = (0.0, 1.0) if metric.share else (-math.inf, math.inf)
    axis = fit(values, metric.title, floor=low, ceiling=high)
    return Scale(axis.low, axis.high, metric)
