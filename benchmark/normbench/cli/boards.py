"""The boards of a suite or of all, for the verbs that show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from normbench.board import Board, boards
from normbench.board.reading import rows_of
from normbench.board.tuning import SWEPT, Sweep, sweeps
from normbench.cli.results import known_suites
from normbench.plan.stale import with_staleness
from normbench.store.about import read, read_all
from normbench.store.marks import with_levels
from normbench.store.store import Store
from normbench.suite import Suite, about


def boards_of(
    suite: Suite, store: Store, wanted: Collection[str], *, together: bool = False
) -> tuple[list[Board], list[Sweep]]:
    """The boards of those trials of a suite that are wanted, and what their tuning tried.

    Role and headline are those of the suite's file as it is now; what its datasets hold is known from the store.
    together: average over classes of devices and precisions.
    """
    rows = [r for r in _told(store, store.rows([suite.name]), [suite.name]) if r["trial_id"] in wanted]
    says = about(suite).model_copy(update={"datasets": read(store, suite.name).datasets})
    tried = sweeps(rows)
    return boards(rows, abouts={suite.name: says}, sweeps=tried, together=together), tried


def lacking_of(suite: Suite, store: Store, wanted: Collection[str]) -> int:
    """How many of the trials that are wanted have no row."""
    return len(set(wanted) - {r["trial_id"] for r in store.rows([suite.name], ["trial_id"])})


def stored_boards(store: Store, suites: list[str] | None = None, *, together: bool = False) -> list[Board]:
    """The boards of all that is stored, or of some suites. Raises `BenchError` for a suite without results."""
    chosen = known_suites(store, suites)
    table = store.table(chosen)
    tried = sweeps(table.select(SWEPT).to_pylist()) if "tuning" in table.column("stage").unique().to_pylist() else []
    rows = _told(store, rows_of(table), chosen)
    return boards(rows, abouts=read_all(store, chosen), sweeps=tried, together=together)


def _told(store: Store, rows: Iterable[Mapping[str, Any]], suites: list[str]) -> Iterator[dict[str, Any]]:
    """Rows with what boards say of them besides their numbers: how far they were checked, and whether they are
    stale.
    """
    return with_staleness(with_levels(store, rows, suites))
