"""Boards as tables: rows, intervals drawn to scale, ties, failures. What a template needs is computed here; templates
only print.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.board import Board, Cell, Entry, Metric, Run
from normbench.pages.context import Context
from normbench.pages.methods import Method, key_of
from normbench.spec.robustness import WORST_CASE
from normbench.spec.text import show
from normbench.store.levels import Level

#: More columns than these are set closer.
MANY = 3
_BREAKS = re.compile(r"(?<=[\[,])(?! )")
#: Drawing width of an interval, in units of its view box.
WIDTH, MARGIN = 176, 5


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
    """One interval, drawn: the mean, both ends (None without an interval) and every seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Number:
    """A number in a table, with what stands behind it."""

    value: str
    spread: str
    covers: str
    rank: str


@dataclass(frozen=True)
class SeedLink:
    text: str
    href: str
    failed: bool


@dataclass(frozen=True)
class Row:
    entry: Entry
    method: Method
    rank: str
    first: bool
    """Whether it may be the best one."""
    strip: Strip | None
    numbers: tuple[Number | None, ...]
    change: str
    seeds: tuple[SeedLink, ...]
    status: str
    failed: bool
    """Whether there is nothing but a failure to show."""
    reason: str


@dataclass(frozen=True)
class Head:
    """Columns of one attack: its name with the unit, in pieces between which a line may break, and its sizes."""

    pieces: tuple[str, ...]
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class BoardTable:
    """`board`: what `Context.board_view` says. One board ordered by one metric. Each group of rows is tied: no member
    lies wholly below the group's first.
    """

    board: dict[str, Any]
    metric: Metric | None
    columns: tuple[Metric, ...]
    scale: Scale | None
    groups: tuple[tuple[Row, ...], ...]
    ranked: bool
    change: bool
    invariant: bool
    """Whether a column says how many weight tensors are scale-invariant."""
    settings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group]

    @property
    def dense(self) -> bool:
        """Whether numbers stand above their intervals, so that the table fits its frame."""
        return len(self.columns) > MANY

    @property
    def heads(self) -> list[Head]:
        """The columns after the first, by attack; none where they are no attacks."""
        sized = self.columns[1:]
        if any(m.size is None for m in sized):
            return []
        grouped = itertools.groupby(sized, key=lambda m: (m.attack, m.threat, m.unit))
        return [
            Head(
                tuple(_BREAKS.split(f"{attack}{f' {threat}' if attack == WORST_CASE else ''}, {unit}")),
                tuple(show(m.size) for m in metrics),
            )
            for (attack, threat, unit), metrics in grouped
        ]


def board_table(
    board: Board,
    metric: Metric | None,
    columns: Sequence[Metric],
    context: Context,
    *,
    root: str = "",
    against: Metric | None = None,
) -> BoardTable:
    """A table of `board` ordered by `metric`. `against`: a metric whose ranks the table's ranks are compared with."""
    scale = _scale(board, metric) if metric else None
    ordered = board.standings(metric) if metric else list(board.entries)
    rows = [
        _row(e, metric, columns, context.methods[key_of(e)], lambda t: root + context.trial_href(t), scale, against)
        for e in ordered
    ]
    ranked = metric is not None and metric.share
    notes = []
    if metric is not None and metric.group == "robust":
        notes.append(f"Ranked by {metric.label}, {'as the suite names it' if board.named else 'by rule'}.")
    if any(e.mixed for e in board.entries):
        notes.append(
            "Run with more than one version of code, libraries or data: "
            + ", ".join(e.label for e in board.entries if e.mixed)
            + "."
        )
    partly = [e.label for e in board.entries if e.failed and len(e.failed) < len(e.runs)]
    if partly:
        notes.append("Means leave failed trials out: " + ", ".join(partly) + ".")
    notes.append(trust_note(e.level for e in board.entries))
    return BoardTable(
        board=context.board_view(board),
        metric=metric,
        columns=tuple(columns),
        scale=scale,
        groups=tuple(tuple(g) for g in _tied(rows, metric, ranked)),
        ranked=ranked,
        change=against is not None,
        invariant=metric is not None and metric.group == "weight-norm" and any(e.invariant for e in ordered),
        settings=tuple(name for name, _ in board.entries[0].settings) if board.entries else (),
        notes=tuple(notes),
    )


def trust_note(levels: Iterable[Level]) -> str:
    """What the marks of trust beside some entries mean."""
    found = set(levels)
    if len(found) == 1:
        (level,) = found
        return f"All entries are {level.symbol} {level.value}: {level.meaning}."
    return (
        "".join(f"{level.symbol} {level.value}: {level.meaning}. " for level in Level if level in found)
        + "An entry is as its least checked trial."
    )


def _row(
    entry: Entry,
    metric: Metric | None,
    columns: Sequence[Metric],
    method: Method,
    trial_href: Callable[[str], str],
    scale: Scale | None,
    against: Metric | None,
) -> Row:
    cell = entry.cells.get(metric.key) if metric else None
    values = {p.trial_id: p.value for p in cell.points} if cell else {}
    return Row(
        entry=entry,
        method=method,
        rank=cell.rank.text if cell and cell.rank else "–",
        first=bool(cell and cell.rank and cell.rank.best == 1),
        strip=_strip(cell, scale) if cell and scale else None,
        numbers=tuple(_number(entry.cells.get(m.key)) for m in columns),
        change=_change(entry, metric, against) if metric and against else "",
        seeds=tuple(
            SeedLink(f"seed {r.seed}: {_outcome(r, metric, values)}", trial_href(r.trial_id), not r.ok)
            for r in entry.runs
        ),
        status=entry.status,
        failed=metric is not None and cell is None,
        reason=next((r.reason for r in entry.failed if r.reason), ""),
    )


def _outcome(run: Run, metric: Metric | None, values: Mapping[str, float]) -> str:
    if metric is None or run.trial_id not in values:
        return run.status.replace("_", " ")
    return f"{metric.display(values[run.trial_id])} {metric.unit}"


def _number(cell: Cell | None) -> Number | None:
    if cell is None:
        return None
    value, _, spread = cell.display.partition(" ")
    return Number(value, spread, cell.covers, f"rank {cell.rank.text}" if cell.rank else "")


def _strip(cell: Cell, scale: Scale) -> Strip:
    interval = cell.interval
    return Strip(
        scale.x(cell.value),
        scale.x(interval.low) if interval else None,
        scale.x(interval.high) if interval else None,
        tuple(scale.x(p.value) for p in cell.points),
    )


def _change(entry: Entry, metric: Metric, against: Metric) -> str:
    """How the rank differs from that of another metric, as far as the rank intervals tell."""
    now, then = entry.cells.get(metric.key), entry.cells.get(against.key)
    if not (now and then and now.rank and then.rank):
        return "–"
    if now.rank.worst < then.rank.best:
        return f"▲ {then.rank.best - now.rank.worst}"
    if now.rank.best > then.rank.worst:
        return f"▼ {now.rank.best - then.rank.worst}"
    return "≈"


def _tied(rows: Sequence[Row], metric: Metric | None, ranked: bool) -> list[list[Row]]:
    """Rows in groups: a new one starts where an interval lies wholly below that of the group's first row; failures
    stand apart.
    """
    groups: list[list[Row]] = []
    floor: float | None = None
    for row in rows:
        cell = row.entry.cells.get(metric.key) if metric else None
        failed = metric is not None and cell is None
        starts = not groups or (failed and groups[-1][0].strip is not None)
        if ranked and cell and cell.interval and floor is not None and cell.interval.high < floor:
            starts = True
        if starts:
            groups.append([])
            floor = None
        if cell and cell.interval and floor is None:
            floor = cell.interval.low
        groups[-1].append(row)
    return groups


def _scale(board: Board, metric: Metric) -> Scale:
    cells = [e.cells[metric.key] for e in board.entries if metric.key in e.cells]
    return scale_of(
        [p.value for c in cells for p in c.points]
        + [v for c in cells if c.interval for v in (c.interval.low, c.interval.high)],
        metric,
    )


def scale_of(values: Sequence[float], metric: Metric) -> Scale:
    """An axis that holds all `values`; accuracies within [0, 1], where all are perfect too."""
    low, high = nice(min(values), max(values))
    if metric.share:  # where all are perfect there is nothing above to make room
        low, high = (max(low, 0.0) if low < 1 else round(low - (high - low), 12)), min(high, 1.0)
    return Scale(low, high, metric)


def nice(low: float, high: float, parts: int = 4) -> tuple[float, float]:
    """Round numbers around a range."""
    largest = max(abs(low), abs(high))
    span = (
        high - low if high - low > 1e-9 * largest else largest * 0.1 or 0.1
    )  # less than that is rounding, of which no axis can be made
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if bottom == top:
        top = bottom + step
    digits = 3 - math.floor(math.log10(step))
    return round(bottom, digits), round(top, digits)
