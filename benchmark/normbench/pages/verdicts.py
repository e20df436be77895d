"""Verdicts and the numbers that they rest on, as pages show them: marks, counts, numbers in words, intervals to
scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from normbench.claims.base import EQUAL, Part
from normbench.pages.axes import fit
from normbench.studies._judged import Judged


@dataclass(frozen=True)
class Mark:
    """How a verdict looks: class in the style sheet, name of its shape in `macros`, its word."""

    css: str
    word: str


HOLDS, IN_PART, REFUTED = Mark("holds", "holds"), Mark("part", "holds in part"), Mark("refuted", "refuted")
UNDECIDED, UNTESTED = Mark("undecided", "undecided"), Mark("untested", "not tested")
#: In the order in which they are counted.
EVERY = (HOLDS, IN_PART, REFUTED, UNDECIDED, UNTESTED)
#: What claims, findings of studies and studies say -> mark.
_MARKS = {m.word: m for m in EVERY} | {
    "contradicted": replace(REFUTED, word="contradicted"),
    "yes": replace(HOLDS, word="yes"),
    "no": replace(REFUTED, word="no"),
    "cannot be told": replace(UNDECIDED, word="cannot be told"),
}


def mark(verdict: str) -> Mark:
    """Of any verdict of a claim, a finding or a study; one that none of them knows was not tested."""
    return _MARKS.get(verdict, replace(UNTESTED, word=verdict))


@dataclass(frozen=True)
class Share:
    """A part of a bar of counts, in percent of its length."""

    mark: Mark
    count: int
    start: float
    length: float

    @property
    def text(self) -> str:
        """`5 refuted`, `2 hold in part`."""
        return f"{self.count} {self.mark.word.replace('holds', 'hold') if self.count != 1 else self.mark.word}"


def shares(verdicts: Iterable[str]) -> list[Share]:
    """How often each verdict was given, as parts of one bar; without those that were not."""
    marks = [mark(v) for v in verdicts]
    found, start = [], 0.0
    for kind in EVERY:
        count = sum(m.css == kind.css for m in marks)
        if count:
            length = 100 * count / len(marks)
            found.append(Share(kind, count, round(start, 3), round(length, 3)))
            start += length
    return found


_DIGITS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def written(value: float) -> str:
    """Three digits as people write them: `1,130`, `0.0123`, `5.13 × 10⁻¹⁶`, `−2`."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:.3g}"
    digits, _, power = shown.partition("e")
    if not power:
        return shown.replace("-", "−")
    if abs(value) < 1:
        ten = f"10{str(int(power)).translate(_DIGITS)}"
        return ten if digits == "1" else f"{digits} × {ten}".replace("-", "−")
    return f"{float(shown):,.0f}".replace("-", "−")


def signed(value: float) -> str:
    """`+1.2`, `−0.3`, `0`."""
    return f"+{written(value)}" if value > 0 else written(value)


def number(part: Part) -> str:
    """The number of a part with its interval: `1.2 [0.8, 1.6]`."""
    shown = written(part.value)
    return f"{shown} [{written(part.low)}, {written(part.high)}]" if part.n else shown


def claimed(part: Part) -> str:
    """Where the claim says that it lies: `claimed: at least 0`, or up to which rounding it may differ."""
    least, most = part.claimed
    if most == EQUAL and math.isinf(least):
        return f"zero but for rounding, up to {written(EQUAL)}"
    if math.isfinite(least) and math.isfinite(most) and most - least <= 4 * EQUAL * max(1.0, abs(most)):
        return f"claimed: {written((least + most) / 2)}, but for rounding"
    if math.isinf(least):
        return f"claimed: at most {written(most)}"
    if math.isinf(most):
        return f"claimed: at least {written(least)}"
    if written(least) == written(most):
        return f"claimed: {written(most)}, but for rounding"
    return f"claimed: {written(least)} to {written(most)}"


_GREEK = {
    **{"alpha": "α", "beta": "β", "gamma": "γ", "eta": "η", "kappa": "κ", "lambda": "λ", "mu": "μ", "sigma": "σ"},
    "tau": "τ",
}
_WORD = re.compile(rf"(?<![A-Za-z])({'|'.join(_GREEK)})(?![A-Za-z-])")
_SIGNS = (("^2", "²"), ("^T", "ᵀ"), ("sqrt(", "√("), ("<=", "≤"), (">=", "≥"), (" - ", " − "))


def typeset(text: str) -> str:
    """A formula within a sentence as people write it: `|gamma^2 - sigma^2|` is `|γ² − σ²|`."""
    found = re.sub(r"1e-0?(\d+)", lambda m: f"10⁻{m[1].translate(_DIGITS)}", text)
    found = _WORD.sub(lambda m: _GREEK[m[1]], found)
    for plain, sign in _SIGNS:
        found = found.replace(plain, sign)
    return re.sub(r"(?<=[\s(=])-(?=\d)", "−", found)


@dataclass(frozen=True)
class Strip:
    """One interval on the axis of its plot, in percent of the axis' length. A mean beyond the axis is an arrow."""

    mean: float
    low: float | None
    high: float | None
    beyond: str = ""
    """`left` or `right`, where the mean lies outside."""
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Span:
    """An axis between two round numbers."""

    low: float
    high: float

    def place(self, value: float) -> float:
        return round(2 + 96 * (value - self.low) / (self.high - self.low), 2)

    def strip(
        self, value: float, low: float | None = None, high: float | None = None, seeds: Sequence[float] = ()
    ) -> Strip:
        beyond = "left" if value < self.low else "right" if value > self.high else ""
        mean, first, last = (
            None if v is None else self.place(min(max(v, self.low), self.high)) for v in (value, low, high)
        )
        assert mean is not None  # noqa: S101
        inside = tuple(self.place(v) for v in seeds if self.low <= v <= self.high)
        return Strip(mean, first, last, beyond, inside)


#: Medians of absolute deviations beyond which a value is no longer what an axis is made for.
FAR = 5.0


def far(values: Sequence[float]) -> list[bool]:
    """Which values lie so far from most others that an axis that shows them would squeeze the rest together."""
    if len(values) < 5:
        return [False] * len(values)
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    spread = sorted(abs(v - middle) for v in values)[len(values) // 2]
    return [spread > 0 and abs(v - middle) > FAR * spread for v in values]


def span(rows: Sequence[tuple[float, float | None, float | None]], *, zero: bool = False) -> Span:
    """An axis for values with their intervals, without those that lie `far` from the others. zero: 0 is on it."""
    apart = far([value for value, *_ in rows])
    near = [row for row, out in zip(rows, apart, strict=True) if not out] or list(rows)
    ends = [v for row in near for v in row if v is not None and math.isfinite(v)] or [0.0]
    if zero:
        ends.append(0.0)
    axis = fit(ends, "")
    return Span(axis.low, axis.high)


@dataclass(frozen=True)
class ForestRow:
    of: str
    mark: Mark
    text: str
    """The number with its interval, or why there is none."""
    strip: Strip | None
    needed: int | None


@dataclass(frozen=True)
class Forest:
    """All rows of one finding on one axis. zero: where nothing would differ."""

    finding: str
    unit: str
    axis: Span
    zero: float
    rows: tuple[ForestRow, ...]

    @property
    def ends(self) -> tuple[str, str]:
        return signed(self.axis.low), signed(self.axis.high)


def forests(findings: Sequence[Judged]) -> list[Forest]:
    """Findings in the order in which they come, those of one unit on the same axis."""
    made = []
    axes: dict[str, Span] = {}
    for unit in dict.fromkeys(f.unit for f in findings):
        there = [f.estimate for f in findings if f.unit == unit and f.estimate]
        axes[unit] = span([(e.value, e.low, e.high) for e in there] or [(0.0, None, None)], zero=True)
    for finding, unit in dict.fromkeys((f.finding, f.unit) for f in findings):
        own, axis = [f for f in findings if (f.finding, f.unit) == (finding, unit)], axes[unit]
        made.append(Forest(finding, unit, axis, axis.place(0.0), tuple(_row(f, axis) for f in own)))
    return made


def _row(found: Judged, axis: Span) -> ForestRow:
    made = found.estimate
    if made is None:
        return ForestRow(found.of, mark(found.verdict), found.why or "not tested", None, None)
    text = signed(made.value)
    if made.low is not None and made.high is not None:
        text += f" [{signed(made.low)}, {signed(made.high)}]"
    elif found.why:
        text += f" ({found.why})"
    strip = axis.strip(made.value, made.low, made.high)
    return ForestRow(found.of, mark(found.verdict), text, strip, found.needed)
