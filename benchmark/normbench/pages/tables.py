"""Boards as tables: rows, intervals drawn to scale, ties, failures. What a template needs is computed here; templates
only print.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.board import EDGE, MIN_SEEDS, Board, Entry, Interval, Metric, Rank, Run, why_not
from normbench.board.titles import DECAY, settings_of, short
from normbench.board.words import attacked, capital
from normbench.pages.compare_page import comparable
from normbench.pages.context import Context
from normbench.pages.methods import Method, key_of
from normbench.pages.strips import Scale, Strip, scale_for, strip
from normbench.spec.text import show
from normbench.store.levels import Level

#: Names of settings at the heads of columns, in full.
FULL = {"lr": "learning rate", "wd": "weight decay"}
#: More columns than these are set closer.
MANY = 3
_BREAKS = re.compile(r"(?<=[\[,=])(?! )")


@dataclass(frozen=True)
class Number:
    """A number in a table, with what stands behind it."""

    value: str
    spread: str
    """The interval; without one, why there is none."""
    certain: bool
    """Whether there is one."""
    covers: str
    sort: float
    """What the column is sorted by."""
    tie: int | None
    """Which group of its column it stands in, see `ties`; None where no group is."""


@dataclass(frozen=True)
class Setting:
    """A setting in a table: its value, or its name at the head of a column."""

    text: str
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
    anchor: str
    """Its id on the page."""
    rank: str
    order: float | None
    """What the column of ranks is sorted by; None without a rank."""
    tie: int | None
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
    """`board`: what `Context.board_view` says. One board ordered by one metric, in groups of rows: see `ties`."""

    board: dict[str, Any]
    sentence: str
    """What it shows, in words."""
    metric: Metric | None
    columns: tuple[Metric, ...]
    scale: Scale | None
    groups: tuple[tuple[Row, ...], ...]
    ranked: bool
    change: bool
    invariant: bool
    """Whether a column says how many weight tensors are scale-invariant."""
    settings: tuple[Setting, ...]
    """Columns: the learning rate, the weight decay, and all else in which methods differ."""
    notes: tuple[str, ...]
    compared: bool
    """Whether any two of its methods can be compared on the page for that."""

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group]

    @staticmethod
    def pieces(text: str) -> list[str]:
        """A name in pieces between which a line may break."""
        return _BREAKS.split(text)

    @property
    def spread(self) -> bool:
        """Whether any interval is drawn."""
        return any(row.strip and (row.strip.low is not None or row.strip.beyond) for row in self.rows)

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
                tuple(self.pieces(f"{capital(attacked(attack, threat, None))}, {unit}")),
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
    scale = scale_for(board, metric) if metric else None
    ordered = board.standings(metric) if metric else list(board.entries)
    names = setting_names(board)
    groups = {m.key: ties(board, m) for m in dict.fromkeys([*columns, *([metric] if metric else [])])}
    anchors = context.anchors(board)
    rows = [
        Row(
            entry=e,
            method=context.methods[key_of(e)],
            anchor=anchors[e.id],
            settings=tuple(Setting(setting(e, name), e.tuned.get(name, "")) for name in names),
            numbers=tuple(_number(e, m, groups[m.key]) for m in columns),
            seeds=tuple(
                SeedLink(f"seed {r.seed}: {_outcome(r, e, metric)}", root + context.trial_href(r.trial_id), not r.ok)
                for r in e.runs
            ),
            **_standing(board, e, metric, scale, against, groups.get(metric.key, {}) if metric else {}),
        )
        for e in ordered
    ]
    ranked = metric is not None and board.tested(metric)
    notes = []
    if metric is not None and metric.group == "robust":
        notes.append(f"Ranked by {metric.words}, {'as the suite names it' if board.named else 'by rule'}.")
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
        groups=_grouped(rows),
        sentence=sentence(board, metric),
        ranked=ranked,
        change=against is not None,
        invariant=metric is not None and metric.group == "weight-norm" and any(e.invariant for e in ordered),
        settings=tuple(Setting(FULL.get(n, n), "") for n in names),
        notes=tuple(notes),
        compared=comparable(board),
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


def setting_names(board: Board) -> list[str]:
    """Short names of the settings that have a column: the learning rate and the weight decay, always, then the rest."""
    named = [name for name, _ in board.entries[0].settings] if board.entries else []
    return list(dict.fromkeys([*named[:1], short(DECAY), *named[1:]]))


def setting(entry: Entry, name: str) -> str:
    """The value of a setting as text."""
    return dict(entry.settings).get(name) or settings_of(entry.spec)[DECAY]


def ties(board: Board, metric: Metric) -> dict[str, int]:
    """The group of every entry that has a number, by id, counted from the best one. A new group starts where all that
    follow lie wholly below the first of the group, as far as they have intervals.
    """
    ordered = [e for e in board.standings(metric) if metric.key in e.cells]
    tops = [i.high if (i := _interval(board, e, metric)) else -math.inf for e in ordered]
    rest = list(itertools.accumulate(reversed(tops), max))[::-1]
    found: dict[str, int] = {}
    group, floor = 0, -math.inf
    for entry, highest in zip(ordered, rest, strict=True):
        interval = _interval(board, entry, metric)
        if -math.inf < highest < floor:
            group, floor = group + 1, -math.inf
        if interval and floor == -math.inf:
            floor = interval.low
        found[entry.id] = group
    return found


def _interval(board: Board, entry: Entry, metric: Metric) -> Interval | None:
    """That an entry is compared by; None where more is not better, or where it was not tested."""
    return entry.cells[metric.key].interval if board.rank(entry, metric) else None


def _standing(
    board: Board, entry: Entry, metric: Metric | None, scale: Scale | None, against: Metric | None, tied: dict[str, int]
) -> dict[str, Any]:
    """Fields of a row that are about the metric of its table."""
    cell = entry.cells.get(metric.key) if metric else None
    rank = board.rank(entry, metric) if metric else None
    return {
        "rank": rank.text if rank else "–",
        "order": rank.best + rank.worst / 10_000 if rank else None,
        "first": bool(rank and rank.best == 1 and cell and cell.interval),
        "tie": tied.get(entry.id),
        "strip": strip(cell, scale) if cell and scale else None,
        "change": _change(rank, board.rank(entry, against)) if against else "",
        "status": entry.status or (why_not(entry, metric) if metric and cell is None else ""),
        "failed": metric is not None and cell is None,
        "reason": next((r.reason for r in entry.failed if r.reason), ""),
    }


def sentence(board: Board, metric: Metric | None) -> str:
    """Who stands first, and how sure that is."""
    found = [e for e in board.standings(metric) if metric.key in e.cells] if metric else []
    if metric is None or not found:
        return ""
    best = f"{found[0].label}, {metric.display(found[0].cells[metric.key].value)} {metric.unit}"
    if not metric.share:
        last = f"{found[-1].label}, {metric.display(found[-1].cells[metric.key].value)} {metric.unit}"
        return f"Weights grow most with {best}" + (f"; least with {last}." if len(found) > 1 else ".")
    said = f"Highest {metric.words}: {best}."
    tested = [e for e in found if board.rank(e, metric)]
    if len(tested) < 2:
        return f"{said} No two methods have the {MIN_SEEDS} seeds that a comparison needs."
    leading = len(board.tied_for_first(metric))
    if leading == 1:
        return f"{said} No other of {len(tested)} may be the best."
    return f"{said} {leading} of {len(tested)} may be the best: no two of them can be told apart."


def _outcome(run: Run, entry: Entry, metric: Metric | None) -> str:
    cell = entry.cells.get(metric.key) if metric else None
    values = {p.trial_id: p.value for p in cell.points} if cell else {}
    if metric is None or run.trial_id not in values:
        return run.status.replace("_", " ")
    return f"{metric.display(values[run.trial_id])} {metric.unit}"


def _number(entry: Entry, metric: Metric, tied: Mapping[str, int]) -> Number | None:
    cell = entry.cells.get(metric.key)
    if cell is None:
        return None
    value, _, spread = cell.display.partition(" ")
    return Number(value, spread or cell.covers, bool(spread), cell.covers, cell.value, tied.get(entry.id))


def _change(now: Rank | None, then: Rank | None) -> str:
    """How a rank differs from that of another metric, as far as the rank intervals tell."""
    if not (now and then):
        return "–"
    if now.worst < then.best:
        return f"▲ {then.best - now.worst}"
    if now.best > then.worst:
        return f"▼ {now.best - then.worst}"
    return "≈"


def _grouped(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """Rows by their group; failures stand apart."""

    def group(row: Row) -> tuple[bool, int | None]:
        return row.failed, row.tie

    return tuple(tuple(own) for _, own in itertools.groupby(rows, group))
