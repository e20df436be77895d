"""Which norm at my batch size? Accuracy, speed and failures against the batch size, from boards that differ in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from normbench.board import Board, Entry, Metric, slugify, why_not
from normbench.board.titles import label, settings_of, short
from normbench.pages.charts import Axis, Line, fit
from normbench.pages.context import Context
from normbench.pages.line_charts import facets
from normbench.pages.methods import key_of
from normbench.pages.svg import Chart, draw
from normbench.spec.text import natural
from normbench.spec.trial import digest

#: What speeds are told against.
REFERENCE = "bn"


@dataclass(frozen=True)
class Batches:
    """Boards that differ in nothing but the batch size, and in what was tuned for it; in its order."""

    boards: tuple[Board, ...]

    @property
    def title(self) -> str:
        lead = self.boards[0]
        return f"{lead.set_up}{'' if lead.width == 1 else f' ×{lead.width:g}'}"

    @property
    def sizes(self) -> list[int]:
        return [b.batch_size for b in self.boards]

    @cached_property
    def entries(self) -> dict[str, dict[str, Entry]]:
        """Entries by label and id of the board. A method with the same settings has one label on all boards, whatever
        was tuned for it.
        """
        found: dict[str, dict[str, Entry]] = defaultdict(dict)
        settings: dict[str, dict[str, str]] = {}
        specs: dict[str, dict[str, Any]] = {}
        for board, entry in ((b, e) for b in self.boards for e in b.entries):
            own = {n: "tuned" if short(n) in entry.tuned else text for n, text in settings_of(entry.spec).items()}
            key = digest([entry.spec["norm"], own])
            settings[key], specs[key] = own, dict(entry.spec)
            found[key][board.id] = entry
        names = sorted({n for own in settings.values() for n in own})
        varying = [n for n in names if len({own.get(n) for own in settings.values()}) > 1]
        named = {label(key, specs, settings, varying): by_board for key, by_board in found.items()}
        return dict(sorted(named.items(), key=lambda item: natural(item[0])))


def several(boards: Sequence[Board]) -> list[Batches]:
    """Those of the boards that answer the question, the most prominent first."""
    groups: dict[tuple[str, float], list[Board]] = defaultdict(list)
    for board in boards:
        if board.headline("clean"):
            groups[board.alike, board.width].append(board)
    found = [Batches(tuple(sorted(g, key=lambda b: b.batch_size))) for g in groups.values()]
    found = [g for g in found if len(set(g.sizes)) == len(g.sizes) > 1]
    return sorted(found, key=lambda g: (-len(g.sizes), -g.boards[0].role.height, natural(g.title)))


def write(context: Context, found: Sequence[Batches]) -> None:
    """Write batch.html, where there are such boards."""
    if not found:
        return
    context.writer.page(
        "batch.html",
        "batch.html",
        title="Which norm at my batch size?",
        reference=REFERENCE,
        groups=[_group(context, i, g) for i, g in enumerate(found)],
    )


def _group(context: Context, position: int, group: Batches) -> dict[str, Any]:
    chart = _chart(context, position, group)
    return {
        "id": f"set-up-{position}-{slugify(group.title, 40)}",
        "title": group.title,
        "sizes": [(f"{b.batch_size:,}", context.topic_href("accuracy", b)) for b in group.boards],
        "answers": [(f"{b.batch_size:,}", *_answer(b)) for b in group.boards],
        "rows": [_row(context, group, text) for text in group.entries],
        "charts": [chart] if chart else [],
    }


def _clean(board: Board) -> Metric:
    return board.metric("clean")


def _answer(board: Board) -> tuple[str, str]:
    """Which methods may be the best, and how sure that is."""
    metric = _clean(board)
    if board.tested(metric):
        tied = [e.label for e in board.tied_for_first(metric)]
        return ", ".join(tied), "" if len(tied) == 1 else "cannot be told apart"
    first = next((e for e in board.standings(metric) if metric.key in e.cells), None)
    return (first.label, f"highest mean; {why_not(first, metric)}") if first else ("none", "every method failed")


def _row(context: Context, group: Batches, text: str) -> dict[str, Any]:
    by_board = group.entries[text]
    return {
        "label": text,
        "method": context.methods[key_of(next(iter(by_board.values())))],
        "cells": [_cell(b, by_board.get(b.id)) for b in group.boards],
    }


def _cell(board: Board, entry: Entry | None) -> dict[str, Any]:
    """Accuracy, speed over that of batch norm, and failures; all empty where the method was not run."""
    if entry is None:
        return {"accuracy": "", "first": False, "speed": "", "failed": ""}
    metric = _clean(board)
    cell = entry.cells.get(metric.key)
    rank = board.rank(entry, metric)
    return {
        "accuracy": cell.display if cell else "–",
        "first": bool(rank and rank.best == 1),
        "speed": _speed(board, entry),
        "failed": entry.status,
    }


def _speed(board: Board, entry: Entry) -> str:
    reference = next((e for e in board.entries if e.norm == REFERENCE), None)
    ours, theirs = (_rate(e) if e else None for e in (entry, reference))
    return f"{ours / theirs:.2f}" if ours and theirs else "–"


def _rate(entry: Entry) -> float | None:
    rates = [r.images_per_second for r in entry.runs if r.images_per_second]
    return fmean(rates) if rates else None


def _chart(context: Context, position: int, group: Batches) -> Chart | None:
    lines = []
    for text, by_board in group.entries.items():
        there = [(b, e) for b in group.boards if (e := by_board.get(b.id)) and _clean(b).key in e.cells]
        if len(there) > 1:
            points = tuple((float(b.batch_size), *_spread(e, _clean(b))) for b, e in there)
            lines.append(Line(text, context.methods[key_of(there[0][1])].family, points))
    if not lines:
        return None
    values = [v for line in lines for point in line.points for v in point[1:] if v is not None]
    spec = facets(
        lines,
        Axis("Batch size", min(group.sizes), max(group.sizes), log=True, ticks=tuple(map(float, group.sizes))),
        fit(values, "Clean accuracy (%)", floor=0.0, ceiling=100.0),
    )
    caption = (
        f"{group.title}. Mean over seeds at each batch size; bands are intervals for comparison, missing under three "
        "seeds. A line ends where a method has no number. Grey: all other families."
    )
    return draw(context, f"batch-{position}-clean", "Clean accuracy against the batch size", caption, spec)


def _spread(entry: Entry, metric: Metric) -> tuple[float, float | None, float | None]:
    cell = entry.cells[metric.key]
    low, high = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
    return 100 * cell.value, None if low is None else 100 * low, None if high is None else 100 * high
