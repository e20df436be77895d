"""The rule of boards for anybody's table of (method, seed, value): `bench rank` and `normbench.rank`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from normbench.board.ranking import rank
from normbench.errors import BenchError


class TableError(BenchError):
    """A table cannot be ranked; the message says which, what is wrong and what was expected."""


def read(path: Path) -> pa.Table:
    """A table from a Parquet file, or from a CSV file with a header. Raises `TableError`."""
    kinds = {".parquet": lambda path: pq.ParquetFile(path).read(), ".csv": pa.csv.read_csv}
    if path.suffix.lower() not in kinds:
        raise TableError(f"{path}: a table is a file called *.parquet or *.csv")
    try:
        return kinds[path.suffix.lower()](path)
    except FileNotFoundError:
        raise TableError(f"there is no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path} cannot be read: {error}") from None


def rank_table(
    table: Any, *, value: str = "accuracy", method: str = "method", seed: str = "seed", board: str | None = None
) -> list[dict[str, Any]]:
    """Mean, interval and rank interval of each method, by the rule of `normbench.board.ranking`; more is better.

    table: an Arrow table, or what Arrow makes one of (a mapping of columns, a frame of polars or pandas). value,
    method, seed: its columns; an empty value, or NaN, stands for a run that failed. board: a column that keeps several
    boards apart, each of which is ranked by itself. Returns a list of `board`, `method`, `mean`, `low`, `high`, `best`,
    `worst`, `n` (seeds), boards and methods in the order of the table; what under three seeds cannot be told is None.
    Raises `TableError`.
    """
    arrow = _arrow(table)
    columns = [_column(arrow, name) for name in (method, seed, *([board] if board else []))]
    numbers = _numbers(arrow, value)
    found: dict[Any, dict[str, dict[Any, float]]] = {}
    told: set[tuple[Any, str, Any]] = set()
    for row, (name, run, *rest) in enumerate(zip(*columns, strict=True)):
        if name is None or run is None:
            raise TableError(f"row {row + 1} has no {method if name is None else seed}")
        place = (rest[0] if rest else None, str(name), run)
        if place in told:
            of = f" of {board} {place[0]}" if board else ""
            raise TableError(f"{method} {name}{of} has {seed} {run} more than once; --board names a column apart")
        told.add(place)
        values = found.setdefault(place[0], {}).setdefault(place[1], {})
        if (number := numbers[row]) is not None:
            values[run] = number
    return [line for key, methods in found.items() for line in _lines(key, methods)]


def _lines(board: Any, methods: dict[str, dict[Any, float]]) -> Iterable[dict[str, Any]]:
    places = {seed: i for i, seed in enumerate(dict.fromkeys(s for values in methods.values() for s in values))}
    made = rank([{places[s]: v for s, v in values.items()} for values in methods.values()])
    for name, standing in zip(methods, made.standings, strict=True):
        interval, own = standing.interval, standing.rank if standing.interval else None
        yield {
            "board": board,
            "method": name,
            "mean": standing.mean if standing.n else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "best": own.best if own else None,
            "worst": own.worst if own else None,
            "n": standing.n,
        }


def _arrow(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    try:
        return pa.table(table)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise TableError(f"a {type(table).__name__} is no table: {error}") from None


def _column(table: pa.Table, name: str) -> list[Any]:
    if (count := table.column_names.count(name)) > 1:
        raise TableError(f"{count} columns are called {name!r}")
    if not count:
        near = difflib.get_close_matches(name, table.column_names, 1)
        raise TableError(
            f"there is no column {name!r}{f' (meant: {near[0]!r}?)' if near else ''}; there are: "
            f"{', '.join(map(repr, table.column_names)) or 'none'}"
        )
    column = table.column(name)
    if pa.types.is_nested(column.type):
        raise TableError(f"column {name!r} holds {column.type}, not one text or number a row")
    values: list[Any] = column.to_pylist()
    return values


def _numbers(table: pa.Table, name: str) -> list[float | None]:
    _column(table, name)
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise TableError(f"column {name!r} holds {column.type}, not numbers")
    values = [None if v is None or math.isnan(v) else v for v in pc.cast(column, pa.float64()).to_pylist()]
    for row, number in enumerate(values):
        if number is not None and math.isinf(number):
            raise TableError(f"row {row + 1}: {name} is {number}; leave it empty where a run failed")
    return values
