"""Stored results as tables: `normbench.results`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

from normbench.api._words import in_python
from normbench.errors import BenchError

if TYPE_CHECKING:
    from normbench.store.store import Store

#: What tables come as.
Kind = Literal["arrow", "pandas", "polars"]

#: The columns by which a row of any table names its trial.
KEYS = (
    *("suite", "trial_id", "entry", "board", "dataset", "model", "stem", "width", "norm", "batch_size", "seed"),
    *("stage", "epochs", "optimizer", "lr", "weight_decay", "device_class", "precision", "status"),
)
#: Further columns of a trial: one value each.
VALUES = (
    *("reason", "epoch", "clean_accuracy", "clean_correct", "test_total", "test_loss", "train_loss"),
    *("validation_accuracy", "attempts", "started", "wall_seconds", "train_seconds", "images_per_second"),
    *("peak_memory", "identity", "content", "source"),
)


@dataclass(frozen=True, repr=False)
class Results:
    """The trials of a results folder. Files are read when a table is asked for, each time anew.

    Each method returns an Arrow table, or with `"pandas"` or `"polars"` a frame, where that library is installed. Every
    row of every table begins with the columns `KEYS`, so that tables can be grouped and joined.
    """

    store: Store
    suites: tuple[str, ...] | None = None
    """None: all."""

    @cached_property
    def table(self) -> Any:
        """Everything as an Arrow table, a row a trial, with all columns of `docs/results.md`: nested ones, packed bits
        and JSON among them.
        """
        return self._read(None)

    def trials(self, to: Kind = "arrow") -> Any:
        """A row a trial: what it was, how it ended, its accuracies (shares in [0, 1]) and losses, seconds, bytes."""
        return converted(self._read((*KEYS, *VALUES)), to)

    def attacks(self, to: Kind = "arrow") -> Any:
        """A row for each trial, attack and size: `attack`, `threat`, `size` (pixel space), `accuracy`, `correct`,
        `total`, `seconds`, `model_calls`, `largest`.
        """
        return converted(_unnested(self._read((*KEYS, "attacks")), "attacks", without=("outcomes",)), to)

    def curves(self, to: Kind = "arrow") -> Any:
        """A row for each number that training and measures left: `step`, `measure` (`train.loss`, `weight-norm.raw`,
        ...), `layer` (empty for the whole network), `value`. The time of a reading in epochs is `at_epoch`.
        """
        return converted(_unnested(self._read((*KEYS, "curves")), "curves", renamed={"epoch": "at_epoch"}), to)

    def __repr__(self) -> str:
        return f"{len(self)} trials in {self.store.root}"

    def __len__(self) -> int:
        """How many trials there are."""
        return int(self._read(("trial_id",)).num_rows)

    def _read(self, columns: Iterable[str] | None) -> Any:
        table = self.store.table(self.suites, None if columns is None else tuple(columns))
        for path, problem in self.store.problems.items():
            warnings.warn(f"{path} is left out: {problem}", RuntimeWarning, stacklevel=4)
        return table


@in_python()
def results(folder: str | PathLike[str] | None = None, suites: str | Iterable[str] | None = None) -> Results:
    """The stored results of a folder, as tables.

    folder: a results folder, or an address such as `s3://bucket/prefix`; by default `BENCH_RESULTS`, else `results/` of
    the checkout or the working directory. suites: names of those that are wanted; by default all. Files that cannot be
    read are left out, with a warning.

    Raises `BenchError` where there is no such folder, or no results of a suite that is named.
    """
    from normbench.cli.results import open_store

    store = open_store(None if folder is None else fspath(folder), must_exist=True)
    if suites is None:
        return Results(store)
    wanted = (suites,) if isinstance(suites, str) else tuple(suites)
    there = store.suites()
    if unknown := sorted(set(wanted) - set(there)):
        raise BenchError(
            f"no results of suite {', '.join(unknown)} in {store.root}; there are {', '.join(there) or 'none'}"
        )
    return Results(store, wanted)


def _unnested(table: Any, name: str, *, without: Iterable[str] = (), renamed: dict[str, str] | None = None) -> Any:
    """A row for each record of the lists in column `name`, with the other columns of the row that it is from."""
    import pyarrow.compute as pc

    column = table.column(name).combine_chunks()
    made = table.drop_columns([name]).take(pc.list_parent_indices(column))
    records = pc.list_flatten(column)
    for part in (field.name for field in records.type if field.name not in without):
        made = made.append_column((renamed or {}).get(part, part), pc.struct_field(records, part))
    return made


def converted(table: Any, to: Kind) -> Any:
    """The table, or a frame of a library that may not be installed."""
    if to == "arrow":
        return table
    if to not in ("pandas", "polars"):
        raise BenchError(f"to: expected 'arrow', 'pandas' or 'polars', found {to!r:.60}")
    try:
        if to == "pandas":
            return table.to_pandas()
        import polars

        return polars.from_arrow(table)
    except ImportError as error:
        raise BenchError(f"{to} is not installed here: pip install {to}") from error
