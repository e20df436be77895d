"""What the pages are built from: boards, and the table behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from normbench.board import Board, Entry, boards
from normbench.board.reading import rows_of
from normbench.board.tuning import SWEPT, Sweep, sweeps
from normbench.plan.stale import with_staleness
from normbench.store.about import read_all
from normbench.store.marks import Mark, level_of, valid
from normbench.store.releases import Releases, data_version, read, split
from normbench.store.store import Store


@dataclass(frozen=True)
class Results:
    """All results of some suites: the Arrow table as stored, and the boards that it makes."""

    table: pa.Table
    """Final trials."""
    boards: tuple[Board, ...]
    problems: dict[str, str]
    """Shards that could not be read, by path relative to the results folder."""
    candidates: pa.Table
    """Trials that tuning tried, of which no board is made."""
    sweeps: tuple[Sweep, ...]
    marks: Mapping[tuple[str, str], tuple[Mark, ...]] = field(default_factory=dict)
    """What re-runs said, by suite and trial."""
    releases: Releases = field(default_factory=Releases)
    """What the results were at each release."""
    partial: bool = False
    """Whether they are those of some suites alone."""

    @cached_property
    def position(self) -> dict[str, int]:
        """Row of a trial in `table`: of its latest result where several suites have it."""
        started = self.table.column("started").to_pylist()
        suites = self.table.column("suite").to_pylist()
        found: dict[str, int] = {}
        for i, trial_id in enumerate(self.table.column("trial_id").to_pylist()):
            if trial_id not in found or (started[found[trial_id]], suites[found[trial_id]]) < (started[i], suites[i]):
                found[trial_id] = i
        return found

    def row(self, trial_id: str, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """One trial's row as a dictionary."""
        table = self.table if columns is None else self.table.select(columns)
        found: dict[str, Any] = table.slice(self.position[trial_id], 1).to_pylist()[0]
        return found

    def shard(self, trial_id: str) -> pa.Table:
        """One trial's row as a table."""
        return self.table.slice(self.position[trial_id], 1)

    def curve(self, trial_id: str, measure: str, layer: str = "") -> list[tuple[float, float]]:
        """(epoch, value) of one curve of a trial, without values that were not finite."""
        curves = self.row(trial_id, ["curves"])["curves"] or []
        return [
            (r["epoch"], r["value"])
            for r in curves
            if r["measure"] == measure and r["layer"] == layer and r["value"] is not None
        ]

    @cached_property
    def version(self) -> str:
        """12 digits that change whenever a result does: which trials there are, what they were run with, when, and how
        they ended.
        """
        return data_version((self.table, self.candidates))

    @cached_property
    def date(self) -> str:
        """Day of the latest result, or empty."""
        latest = pc.max(self.table.column("started")).as_py()
        return f"{latest:%Y-%m-%d}" if latest else ""

    def lead(self) -> Board | None:
        """The board to open with."""
        return max(self.boards, key=lambda b: b.prominence, default=None)


def load(store: Store, suites: Sequence[str] | None) -> Results:
    """Read the results of the given suites (default: all)."""
    table = store.table(suites).combine_chunks()
    marks, abouts = valid(store, suites), read_all(store, suites)
    releases = read(store)
    problems = {path.removeprefix(str(store.root)).lstrip("/"): why for path, why in store.problems.items()}
    parts = split(table)
    candidates = parts[1].combine_chunks()
    final = parts[0].combine_chunks() if len(candidates) else table
    made = tuple(sweeps(table.select(SWEPT).to_pylist())) if len(candidates) else ()
    rows = ({**row, "level": level_of(marks.get((row["suite"], row["trial_id"]), ()))} for row in rows_of(final))
    made_of = tuple(boards(with_staleness(rows), abouts=abouts, sweeps=made))
    return Results(final, made_of, problems, candidates, made, marks, releases, partial=suites is not None)


def primary(entry: Entry) -> str:
    """The component that an entry is shown under: its weight method where there is one, else its activation method."""
    return entry.methods[0] if entry.methods else entry.norm
