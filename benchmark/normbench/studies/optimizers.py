"""Do the gaps between normalization methods depend on the optimizer?

Methods are mostly compared under SGD. An optimizer that scales each weight's or each matrix's step by itself (AdamW,
Muon) takes over some of what a norm does for training, so that gaps between methods may shrink, or turn.

Source: a question of this benchmark; Jordan et al. 2024 for Muon, Loshchilov and Hutter 2019 for AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import ClassVar

from normbench.board import Board, Entry, Metric
from normbench.board.words import capital
from normbench.studies._charts import Tile, heat
from normbench.studies._contrasts import (
    MARGIN,
    Asked,
    Contrast,
    accuracy,
    entries,
    judged,
    judged_row,
    said,
    table,
    text,
    tuned,
    verdict,
)
from normbench.studies.base import Evidence, Figure, Question, Section, failures, percent, varied

#: The method that others are set against, where it was run.
REFERENCE = "bn"


class Optimizers(Question):
    name: ClassVar[str] = "optimizers"
    summary: ClassVar[str] = "Do the gaps between normalization methods depend on the optimizer?"
    source: ClassVar[str] = "A question of this benchmark"
    title: ClassVar[str] = "Normalization and optimizer"
    why: ClassVar[str] = (
        "Methods are mostly compared under SGD. An optimizer that sizes each weight's or each matrix's step by itself "
        "takes over some of what a norm does for training."
    )
    method: ClassVar[str] = (
        f"A gap is the accuracy of a method less that of {REFERENCE} (of the first method where that was not run), "
        "with the same optimizer and seed. What is tested is the gap under one optimizer less the gap under another, "
        "for all methods, pairs of optimizers, clean and robust accuracy at once. The answer is yes where one of these "
        f"differences is away from 0, no where all of them lie within {MARGIN:g} points."
    )

    def fits(self, found: Evidence) -> bool:
        return any(len(_grid(entries(found, b))) > 1 for b in found.boards)

    def sections(self, found: Evidence) -> Iterator[Section]:
        for board in found.boards:
            if len(grid := _grid(entries(found, board))) > 1 and (metrics := accuracy(board)):
                yield _section(found, board, grid, metrics)


def _optimizer(entry: Entry) -> str:
    return str(entry.spec["train"]["optimizer"])


def _grid(given: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """Method -> optimizer -> entry, of the methods that were run with at least two optimizers and nothing else that
    differs but the rate and what was tuned. Where a method has several rates that nobody chose among, it has none.
    """
    groups: dict[str, dict[str, dict[str, list[Entry]]]] = {}
    for entry in given:
        alike = varied(entry.spec, "train.optimizer", "train.lr", "norm", "norm_label", *tuned(entry))
        groups.setdefault(alike, {}).setdefault(entry.norm, {}).setdefault(_optimizer(entry), []).append(entry)
    grids = [
        {norm: one for norm, by in group.items() if len(one := {o: e[0] for o, e in by.items() if len(e) == 1}) > 1}
        for group in groups.values()
    ]
    return max(grids, key=len, default={})


def contrasts(grid: dict[str, dict[str, Entry]], metrics: Sequence[Metric]) -> list[Contrast]:
    """Gap to the reference under one optimizer less that under another."""
    first = _reference(grid)
    return judged(
        [
            Asked(
                (norm, metric.title, f"{a} less {b}"),
                metric,
                ((grid[norm][a], grid[first][a]), (grid[norm][b], grid[first][b])),
            )
            for metric in metrics
            for norm in grid
            if norm != first
            for a, b in combinations([o for o in grid[first] if o in grid[norm]], 2)
        ]
    )


def _reference(grid: dict[str, dict[str, Entry]]) -> str:
    return REFERENCE if REFERENCE in grid else next(iter(grid))


def _section(found: Evidence, board: Board, grid: dict[str, dict[str, Entry]], metrics: Sequence[Metric]) -> Section:
    every, first = contrasts(grid, metrics), _reference(grid)
    caption = (
        f"The gap to {first} under the first optimizer less the gap under the second. Intervals hold for all "
        "rows at once."
    )
    tables = [table("Do gaps depend on the optimizer?", caption, ("Method", "Accuracy", "Optimizers"), every)]
    tables += failures(found.on(board), lambda r: (str(r.spec["train"]["optimizer"]),), ("Optimizer",))
    notes = ("A rate tuned on few candidates may suit one optimizer better than another; the boards show the rates.",)
    findings = tuple(
        judged_row(
            f"{capital(text(c))}, less that of {first}, is higher under {c.names[2].replace(' less ', ' than under ')}",
            c,
        )
        for c in every
    )
    return Section(
        board.title, verdict(every), said(every), tuple(tables), tuple(_maps(grid, metrics)), notes, findings
    )


def _maps(grid: dict[str, dict[str, Entry]], metrics: Sequence[Metric]) -> Iterator[Figure]:
    optimizers = list(dict.fromkeys(o for by in grid.values() for o in by))
    for metric in metrics:
        read = {
            (norm, optimizer): entry.cells[metric.key].value
            for norm, by in grid.items()
            for optimizer, entry in by.items()
            if metric.key in entry.cells
        }
        tiles = [
            Tile(o, n, None if (v := read.get((n, o))) is None else 100 * v, "–" if v is None else percent(v))
            for n in grid
            for o in optimizers
        ]
        chart = heat("", tiles, ("Optimizer", optimizers), ("Method", list(grid)))
        caption = "Mean over seeds, in %. Grey: no value."
        yield Figure(metric.group, f"{metric.title} by method and optimizer", caption, chart)
