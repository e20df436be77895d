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

from normbench.board import EDGE, Board, Cell, Entry, Metric, Rank, Run, why_not
from normbench.pages.context import Context
from normbench.pages.methods import Method, key_of
from normbench.spec.robustness import WORST_CASE
from normbench.spec.text import show
from normbench.store.levels import Level

#: Names of settings at the heads of columns, in full.
FULL = {"lr": "learning rate", "wd": "weight decay"}
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
    """The interval; without one, why there is none."""
    certain: bool
    """Whether there is one."""
    covers: str


@dataclass(frozen=True)
class Setting:
    """A setting in a table: its value, or its name at the head of a column."""

    text: str
    full: str
    """The name without abbreviations; of a value nothing."""
    end: str
    """`smallest` or `largest`, where tuning chose that of those it tried."""


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
    settings: tuple[Setting, ...]
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
    settings: tuple[Setting, ...]
    """Columns: the learning rate, and all else in which methods differ."""
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

    def trial_href(trial_id: str) -> str:
        return root + context.trial_href(trial_id)

    rows = [_row(board, e, metric, columns, context.methods[key_of(e)], trial_href, scale, against) for e in ordered]
    ranked = metric is not None and board.tested(metric)
    notes = []
    if metric is not None and metric.group == "robust":
        notes.append(f"Ranked by {metric.label}, {'as the suite names it' if board.named else 'by rule'}.")
    if any(e.mixed for e in board.entries):
        notes.append(
            "Run with more than one version of code, libraries or data: "
            + ", ".join(e.label for e in board.entries if e.mixed)
            + "."
        )
    for why in dict.fromkeys(why for e in board.entries for r in e.runs for why in r.absent.values()):
        without = [e.label for e in board.entries if any(why in r.absent.values() for r in e.runs)]
        notes.append(f"By other statistics there is nothing of {', '.join(without)}: {why}.")
    partly = [e.label for e in board.entries if e.failed and len(e.failed) < len(e.runs)]
    if partly:
        notes.append("Means leave failed trials out: " + ", ".join(partly) + ".")
    if any(any(e.tuned.values()) for e in board.entries):
        notes.append(f"{EDGE}.")
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
        settings=tuple(Setting(n, FULL.get(n, n), "") for n, _ in board.entries[0].settings) if board.entries else (),
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
    board: Board,
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
    rank = board.rank(entry, metric) if metric else None
    return Row(
        entry=entry,
        method=method,
        rank=rank.text if rank else "–",
        first=bool(rank and rank.best == 1),
        settings=tuple(Setting(text, "", entry.tuned.get(name, "")) for name, text in entry.settings),
        strip=_strip(cell, scale) if cell and scale else None,
        numbers=tuple(_number(entry.cells.get(m.key)) for m in columns),
        change=_change(rank, board.rank(entry, against)) if against else "",
        seeds=tuple(
            SeedLink(f"seed {r.seed}: {_outcome(r, metric, values)}", trial_href(r.trial_id), not r.ok)
            for r in entry.runs
        ),
        status=entry.status or (why_not(entry, metric) if metric and cell is None else ""),
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
    return Number(value, spread or cell.covers, bool(spread), cell.covers)


def _strip(cell: Cell, scale: Scale) -> Strip:
    interval = cell.interval
    return Strip(
        scale.x(cell.value),
        scale.x(interval.low) if interval else None,
        scale.x(interval.high) if interval else None,
        tuple(scale.x(p.value) for p in cell.points),
    )


def _change(now: Rank | None, then: Rank | None) -> str:
    """How a rank differs from that of another metric, as far as the rank intervals tell."""
    if not (now and then):
        return "–"
    if now.worst < then.best:
        return f"▲ {then.best - now.worst}"
    if now.best > then.worst:
        return f"▼ {now.best - then.worst}"
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
