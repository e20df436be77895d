"""Axes of charts: round ticks that hold the data between them, and labels that fit beside each other.

Every tick is labelled, with a text that is written here. Vega would leave labels out, on logarithmic axes above all:
data then lie beyond the last label.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: Pixels a character of a label takes at 11 px, on the safe side, and how far labels stand apart at least.
CHARACTER, APART = 6.3, 6
#: Length in pixels of the shortest axis that any chart has: labels fit on it.
SHORTEST = 180
#: Steps between ticks, times a power of ten, the rounder ones first; and how many steps an axis has at most.
STEPS, MOST = (1.0, 2.0, 5.0, 2.5), 7
#: Ticks within a decade of a logarithmic axis.
DECADES = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
#: Steps that ticks are rounded from are larger than this share of the largest value: below lies rounding.
FINEST = 1e-9


@dataclass(frozen=True)
class Axis:
    """A quantitative axis: title with unit, domain, logarithmic or not."""

    title: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[float, ...] = ()
    """Where ticks stand; round numbers within the domain when empty."""

    def pixel(self, value: float, length: float) -> float:
        low, high, v = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (v - low) / (high - low) * length

    def value(self, pixel: float, length: float) -> float:
        low, high = (math.log(x) if self.log else x for x in (self.low, self.high))
        found = low + pixel / length * (high - low)
        return math.exp(found) if self.log else found

    def encode(self, field: str, **axis: Any) -> dict[str, Any]:
        scale: dict[str, Any] = {"domain": [self.low, self.high], "nice": False, "zero": False}
        if self.log:
            scale["type"] = "log"
        slack = 1e-9 * (self.high - self.low)
        found = self.ticks or ticks_around(self.low, self.high, log=self.log)
        shown = [t for t in found if self.low - slack <= t <= self.high + slack]
        texts = json.dumps([written(t) for t in shown], ensure_ascii=False)
        labels = {"values": shown, "labelExpr": f"{texts}[indexof({json.dumps(shown)}, datum.value)]"}
        return {
            "field": field,
            "type": "quantitative",
            "scale": scale,
            "axis": {"title": self.title, "labelOverlap": False, **labels} | axis,
        }


def fit(
    values: Iterable[float],
    title: str,
    *,
    log: bool = False,
    margin: float = 0.0,
    floor: float = -math.inf,
    ceiling: float = math.inf,
    whole: bool = False,
) -> Axis:
    """An axis from tick to tick around all `values`, with a margin on both sides that ends at `floor` and `ceiling`.
    whole: between whole numbers there are no ticks.
    """
    found = list(values)
    low, high = min(found), max(found)
    if log:
        ratio = max(high / low, 1.05) ** margin
        ticks = ticks_around(low / ratio, high * ratio, log=True)
    else:
        flat = high - low <= FINEST * max(abs(low), abs(high))
        span = max(abs(high), 1.0) * 0.1 if flat else (high - low) * margin
        ticks = ticks_around(max(floor, low - span), min(ceiling, high + span), whole=whole)
    return Axis(title, ticks[0], ticks[-1], log=log, ticks=ticks)


def written(tick: float) -> str:
    """`1,200`, `0.25`, `−5`, `1.5e9`: a tick's label."""
    brief = f"{tick:g}"
    text = brief.replace("e+0", "e").replace("e+", "e") if abs(tick) >= 1e6 and float(brief) == tick else ""
    return (text or f"{tick:,.12g}").replace("-", "−")


def ticks_around(low: float, high: float, *, log: bool = False, whole: bool = False) -> tuple[float, ...]:
    """At least two ascending round numbers, the first at most `low` and the last at least `high` > `low`, of which all
    labels fit beside each other. Of those that do, the ones that leave least room at the ends; of these, those with
    most ticks.
    """
    made = list(_logarithmic(low, high) if log else _linear(low, high, whole))
    fitting = [ticks for ticks in made if _fits(ticks, log)] or [min(made, key=len)]

    def spare(ticks: tuple[float, ...]) -> tuple[float, int]:
        length = math.log(ticks[-1] / ticks[0]) if log else ticks[-1] - ticks[0]
        return float(f"{length:.9g}"), -len(ticks)

    return min(fitting, key=spare)


def _linear(low: float, high: float, whole: bool) -> Iterator[tuple[float, ...]]:
    least = max((high - low) / MOST, FINEST * max(abs(low), abs(high)))
    power = math.floor(math.log10(least))
    for exponent in (power, power + 1, power + 2):
        for factor in STEPS:
            step = factor * 10.0**exponent
            if step < least * (1 - 1e-9) or (whole and step != round(step)):
                continue
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            digits = 12 - exponent
            yield tuple(round(i * step, digits) for i in range(first, max(last, first + 1) + 1))


def _logarithmic(low: float, high: float) -> Iterator[tuple[float, ...]]:
    bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in DECADES:
        yield _from_to([f * 10.0**e for e in range(bottom - 1, top + 2) for f in factors], low, high)
    for stride in range(2, max(3, top - bottom)):
        yield _from_to([10.0**e for e in range(bottom - stride, top + stride + 1, stride)], low, high)
    if high < 10 * low:
        yield from (ticks for ticks in _linear(low, high, whole=False) if ticks[0] > 0)


def _from_to(ticks: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    rounded = [float(f"{t:.3g}") for t in ticks]
    first = max(i for i, t in enumerate(rounded) if t <= low * (1 + 1e-9))
    last = min(i for i, t in enumerate(rounded) if t >= high * (1 - 1e-9))
    return tuple(rounded[first : max(last, first + 1) + 1])


def _fits(ticks: Sequence[float], log: bool) -> bool:
    """Whether there are few enough of them, and no label meets the next on the shortest axis."""
    axis = Axis("", ticks[0], ticks[-1], log)
    beside = itertools.pairwise(boxes(axis, ticks, SHORTEST))
    return len(ticks) <= MOST + 1 and all(a[1] + APART <= b[0] for a, b in beside)


def boxes(axis: Axis, ticks: Sequence[float], length: float) -> list[tuple[float, float]]:
    """From where to where the labels of an axis of `length` pixels reach, if it lies."""
    halves = [len(written(t)) * CHARACTER / 2 for t in ticks]
    return [(p - h, p + h) for p, h in zip((axis.pixel(t, length) for t in ticks), halves, strict=True)]
