"""Results as Parquet: one atomic shard a trial, `results/<suite>/<trial_id>.parquet`, or many of them in one
`compact-<digest>.parquet`.

A shard holds one row with everything about a trial. It is written in one step, so a reader finds a whole shard or none.
A trial that is run again replaces its row. Every file holds the schema's version and digests of its columns. Where a
trial has both a shard of its own and a row in a compact file, the shard counts: compaction writes the compact file
first and removes the shards after that.
"""

from __future__ import annotations

import io
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from normbench.spec.outcome import Outcome
from normbench.spec.trial import Trial
from normbench.store.columns import odd
from normbench.store.files import LINK, Entry, Files, LinkError, open_files
from normbench.store.reading import BROKEN, StoreError, VersionError, parse, told, version_of
from normbench.store.schema import SCHEMA, SCHEMA_VERSION, to_row
from normbench.store.seal import KEY, fingerprint, seals, seals_in

__all__ = ["SCHEMA_VERSION", "Store", "StoreError", "VersionError", "version_of"]

#: Names of suites, shards and compact files. Nothing else in a results folder is read, so no text in a row becomes a
#: path.
SUITE = re.compile(r"[a-z0-9_-]{1,64}")
TRIAL_ID = re.compile(r"[0-9a-f]{16}")
COMPACT = re.compile(r"compact-[0-9a-f]{16}\.parquet")
#: Folder of a suite's set-aside shards: files that could not be read when their trial was run again.
ASIDE = ".set-aside"
#: Rows of a compact file that are compressed together.
ROW_GROUP = 2000
#: A folder is listed again at most so often when files vanish while it is read, as they do in a compaction.
_TRIES = 5
_READERS = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Store:
    """The results folder `root`: a path, or an address that pyarrow opens.

    `problems` holds the files that could not be read, by path, with the reason. `versions` holds those of them that
    another version of the schema wrote.
    """

    root: Path | str
    problems: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    @cached_property
    def files(self) -> Files:
        return open_files(self.root)

    def write(self, suite: str, trial: Trial, identity: dict[str, Any], outcome: Outcome) -> Path:
        """Store one outcome; when this returns, it is on disk. `identity`: see `normbench.plan.identity.Identity`.

        A file of that name which cannot be read is set aside, not overwritten.
        """
        table = pa.Table.from_pylist([to_row(suite, trial, identity, outcome)], schema=SCHEMA)
        name = shard_name(suite, trial.trial_id)
        try:
            self._set_aside_if_broken(suite, name)
            self.files.write(name, to_bytes(table))
        except OSError as error:
            raise StoreError(
                f"cannot write the result of a trial to {self.files.where(name)}: {error.strerror or error}"
            ) from error
        return self.path(suite, trial.trial_id)

    def put(self, name: str, content: bytes) -> None:
        """Write a file in one step. Raises `StoreError`."""
        try:
            self.files.write(name, content)
        except OSError as error:
            raise StoreError(f"cannot write {self.files.where(name)}: {error.strerror or error}") from error

    def drop(self, name: str) -> None:
        """Remove a file. Raises `StoreError`."""
        try:
            self.files.remove(name)
        except OSError as error:
            raise StoreError(f"cannot remove {self.files.where(name)}: {error.strerror or error}") from error

    def path(self, suite: str, trial_id: str) -> Path:
        """Where the shard of a trial lies, or would, in a folder of this machine."""
        return Path(self.root, shard_name(suite, trial_id))

    def suites(self) -> list[str]:
        """Names of the suites that have results, sorted."""
        there = [e for e in self.entries() if not e.name.startswith(".")]
        self.problems |= {self.files.where(e.name): LINK for e in there if e.is_link}
        found = []
        for name in (e.name for e in there if e.is_folder):
            if not any(e.name.endswith(".parquet") for e in self.entries(name)):
                continue
            if SUITE.fullmatch(name):
                found.append(name)
            else:
                self.problems[self.files.where(name)] = "is not a suite's name (lower-case letters, digits, - and _)"
        return found

    def entries(self, folder: str = "") -> list[Entry]:
        """What lies in the results folder, or in one of its folders; nothing where a link stands in that folder's
        place, which `problems` then names. Raises `StoreError` where it cannot be listed.
        """
        try:
            return self.files.list(folder)
        except LinkError:
            self.problems[self.files.where(folder)] = LINK
            return []
        except OSError as error:
            raise StoreError(
                f"cannot list the results folder {self.files.where(folder)}: {error.strerror or error}"
            ) from error

    def shards(self, suite: str) -> list[str]:
        """Names of a suite's Parquet files relative to the results folder, sorted."""
        return [
            f"{suite}/{e.name}"
            for e in self.entries(_suite(suite))
            if e.name.endswith(".parquet") and not e.is_folder and not e.name.startswith(".")
        ]

    def table(
        self, suites: Iterable[str] | None = None, columns: Sequence[str] | None = None, *, whole: bool = False
    ) -> pa.Table:
        """All readable rows of the given suites (default: all), ordered by suite and trial_id, restricted to
        `columns`. A file is left out for what it holds in these columns; `whole`: in any column.
        """
        wanted = pa.schema(
            [SCHEMA.field(c) for c in (SCHEMA.names if columns is None else columns)], metadata=SCHEMA.metadata
        )
        read = SCHEMA if whole else wanted
        tables = [self._rows_of(s, read) for s in (self.suites() if suites is None else suites)]
        tables = [t.select(wanted.names) for t in tables]
        return pa.concat_tables([_none(wanted), *(t for t in tables if t.num_rows)])

    def rows(
        self, suites: Iterable[str] | None = None, columns: Sequence[str] | None = None, *, whole: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The rows of `table` as dictionaries."""
        yield from as_rows(self.table(suites, columns, whole=whole))

    def extract(self, suite: str, trial_ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Each trial's shard as bytes: the file itself, or one made from a row of a compact file."""
        loose = {n for n in self.shards(suite) if not is_compact(n)}
        compact: dict[str, int] = {}
        table: pa.Table | None = None
        for trial_id in trial_ids:
            name = shard_name(suite, trial_id)
            if name in loose:
                yield trial_id, self.files.read(name)
                continue
            if table is None:
                table = self._rows_of(suite, SCHEMA)
                compact = {t: i for i, t in enumerate(table.column("trial_id").to_pylist())}
            yield trial_id, to_bytes(table.slice(compact[trial_id], 1))

    def read(self, name: str, wanted: pa.Schema = SCHEMA) -> pa.Table | None:
        """The rows of one file; None when it cannot be read, with the reason in `problems`. Raises
        `FileNotFoundError`.
        """
        table = self._unchecked(name, wanted)
        if table is not None and (problems := odd(table)):
            self.problems[self.files.where(name)] = _odd(name, table, *next(iter(problems.items())))
            return None
        return table

    def _unchecked(self, name: str, wanted: pa.Schema) -> pa.Table | None:
        """The same, without a look at what the rows hold."""
        where = self.files.where(name)
        self.problems.pop(where, None)
        self.versions.pop(where, None)
        try:
            content = self.files.read(name)
            table = parse(content, wanted)
            if is_compact(name) and name.rpartition("/")[2] != compact_name(content):
                raise StoreError(f"it should be called {compact_name(content)}: it is another file's content")
            return table
        except FileNotFoundError:
            raise
        except BROKEN as error:
            self.problems[where] = told(error)
            if isinstance(error, VersionError):
                self.versions[where] = error.version
            return None

    def _rows_of(self, suite: str, wanted: pa.Schema) -> pa.Table:
        needed = pa.schema(
            [*wanted, *(SCHEMA.field(n) for n in ("suite", "trial_id", "started") if n not in wanted.names)],
            metadata=SCHEMA.metadata,
        )
        for _ in range(_TRIES):
            names = self.shards(suite)
            with ThreadPoolExecutor(max_workers=_READERS) as pool:
                read = list(pool.map(lambda n: self._read_placed(n, needed), names))
            if not any(gone for _, gone in read):
                break
        if any(e.name == ASIDE for e in self.entries(suite)):
            for entry in self.entries(f"{suite}/{ASIDE}"):
                self.problems[self.files.where(f"{suite}/{ASIDE}/{entry.name}")] = (
                    "was set aside: it could not be read when its trial was run again"
                )
        found, table = self._sound([(n, t) for n, (t, _) in zip(names, read, strict=True) if t is not None], needed)
        if len(found) > 1 and any(is_compact(n) for n, _ in found):
            loose = [not is_compact(n) for n, t in found for _ in range(t.num_rows)]
            table = _latest(table, loose)
        return table.select(wanted.names)

    def _sound(
        self, found: Sequence[tuple[str, pa.Table]], wanted: pa.Schema
    ) -> tuple[list[tuple[str, pa.Table]], pa.Table]:
        """Those of the files of which every row holds what a row may, and their rows together. All rows are looked at
        in one go: one by one, thousands of shards would take seconds.
        """
        table = pa.concat_tables([_none(wanted), *(t for _, t in found)])
        problems = odd(table)
        if not problems:
            return list(found), table
        good, start = [], 0
        for name, own in found:
            first = next((row for row in range(start, start + own.num_rows) if row in problems), None)
            if first is None:
                good.append((name, own))
            else:
                self.problems[self.files.where(name)] = _odd(name, own, first - start, problems[first])
            start += own.num_rows
        return good, pa.concat_tables([_none(wanted), *(t for _, t in good)])

    def _read_placed(self, name: str, wanted: pa.Schema) -> tuple[pa.Table | None, bool]:
        """The rows of a file if they belong where it lies, and whether the file vanished before it was read."""
        try:
            table = self._unchecked(name, wanted)
        except FileNotFoundError:
            return None, True
        if table is None:
            return None, False
        if problem := _misplaced(name, table):
            self.problems[self.files.where(name)] = problem
            return None, False
        return table, False

    def _set_aside_if_broken(self, suite: str, name: str) -> None:
        content = b""
        try:
            content = self.files.read(name)
        except FileNotFoundError:
            return
        except LinkError:
            pass  # another error may pass, and the file may be good: then nothing is moved or written
        try:
            table = parse(content, SCHEMA)
            if not _misplaced(name, table) and not odd(table):
                return
        except BROKEN:
            pass
        last = name.partition("/")[2]
        taken = {e.name for e in self.entries(f"{suite}/{ASIDE}")}
        free = next(n for n in (last, *(f"{last}.{i}" for i in range(1, len(taken) + 2))) if n not in taken)
        self.files.move(name, f"{suite}/{ASIDE}/{free}")


def _misplaced(name: str, table: pa.Table) -> str:
    """Why the rows of a file do not belong where it lies; empty when they do."""
    suite, _, last = name.partition("/")
    if problems := odd(table.select(["suite", "trial_id"])):
        return _odd(name, table, *next(iter(problems.items())))
    ids = table.column("trial_id").to_pylist()
    says = table.column("suite").unique().to_pylist()
    if says != [suite]:
        return f"it is of suite {', '.join(map(repr, says))} but lies in {suite!r}"
    if not all(isinstance(i, str) and TRIAL_ID.fullmatch(i) for i in ids):
        return "its trial_id is none (16 hexadecimal digits)"
    if is_compact(name):
        return "" if ids == sorted(set(ids)) else "its rows are not sorted by trial_id, each once"
    if len(ids) != 1:
        return f"it holds {len(ids)} rows; a shard holds one"
    return "" if last == f"{ids[0]}.parquet" else f"it should be called {ids[0]}.parquet"


def _odd(name: str, table: pa.Table, row: int, problem: str) -> str:
    """What is wrong with a row of a file. In a compact file the row is named."""
    if not is_compact(name):
        return problem
    ids = table.column("trial_id").slice(row, 1) if "trial_id" in table.column_names else None
    whose = ids[0].as_py() if ids is not None and not odd(pa.table({"trial_id": ids})) else None
    return f"{problem} (row {row + 1}{f', {whose}' if whose else ''})"


def _latest(table: pa.Table, loose: Sequence[bool]) -> pa.Table:
    """One row a trial, sorted by trial_id: that of its own shard, or else the latest of the compact files."""
    started = table.column("started").cast(pa.int64()).to_pylist()
    best: dict[str, tuple[bool, int, int]] = {}
    for i, trial_id in enumerate(table.column("trial_id").to_pylist()):
        mine = loose[i], started[i] or 0, i
        best[trial_id] = max(best.get(trial_id, mine), mine)
    chosen = array("q", [best[t][2] for t in sorted(best)])
    return table.take(
        pa.Array.from_buffers(pa.int64(), len(chosen), [None, pa.py_buffer(chosen)])
    )  # pa.array would import pandas, which takes a second


def as_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    if "started" not in table.column_names:
        yield from table.to_pylist()
        return
    at = table.column_names.index("started")
    # pyarrow imports pandas for times, which takes a second
    for row in table.set_column(at, "started", table.column(at).cast(pa.int64())).to_pylist():
        yield row | {"started": _EPOCH + timedelta(milliseconds=row["started"])}


def _none(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([], schema=schema)  # unlike empty_table, without importing pandas


def _suite(name: str) -> str:
    if not SUITE.fullmatch(name):
        raise StoreError(f"{name!r} is no name of a suite (lower-case letters, digits, - and _)")
    return name


def shard_name(suite: str, trial_id: str) -> str:
    """`suite/trial_id.parquet`. Raises `StoreError` for texts that are no such names: a row from elsewhere may carry
    anything.
    """
    if not TRIAL_ID.fullmatch(trial_id):
        raise StoreError(f"{trial_id!r} is no id of a trial (16 hexadecimal digits)")
    return f"{_suite(suite)}/{trial_id}.parquet"


def compact_name(content: bytes) -> str:
    """What a compact file of these bytes is called."""
    return f"compact-{fingerprint_of(content)[:16]}.parquet"


def is_compact(name: str) -> bool:
    return COMPACT.fullmatch(name.rpartition("/")[2]) is not None


def to_bytes(table: pa.Table) -> bytes:
    """A table of `SCHEMA` as a Parquet file that carries the digests of its columns (see `normbench.store.seal`)."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, SCHEMA, compression="zstd") as writer:
        writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)
        writer.add_key_value_metadata({KEY.decode(): json.dumps(seals(table), separators=(",", ":"))})
    return buffer.getvalue()


def fingerprint_of(content: bytes) -> str:
    """SHA-256 of the rows in the bytes of a file, as the file says it: what marks and compact files name rows by."""
    return fingerprint(seals_in(pq.ParquetFile(pa.BufferReader(content))))
