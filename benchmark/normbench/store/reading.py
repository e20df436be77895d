"""From the bytes of a Parquet file to rows that were checked against its seals and against what a row may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from normbench.errors import BenchError
from normbench.store.schema import SCHEMA_VERSION, VERSION_KEY
from normbench.store.seal import seals, seals_in

#: A file may unpack to so many bytes, and to so many more for each of its own. Of compacted synthetic results, which
#: repeat themselves as no real ones do, a byte holds 120.
SMALL, RATIO = 2**26, 250
#: And to no more than this.
LARGE = 2**30


class StoreError(BenchError):
    """A results folder or shard cannot be used; the message names it and says what to do."""


class VersionError(StoreError):
    """A file of another version of the schema."""

    def __init__(self, version: int) -> None:
        self.version = version
        if version > SCHEMA_VERSION:
            text = (
                f"is of a newer normbench: upgrade to read it (schema {version}, this version reads {SCHEMA_VERSION})"
            )
        elif version:
            text = (
                f"is of an older normbench: `bench results migrate` brings it to schema {SCHEMA_VERSION} (found "
                f"{version})"
            )
        else:
            text = f"has no known schema version (this version reads {SCHEMA_VERSION})"
        super().__init__(text)


#: What reading a file that is no whole shard of this version raises.
BROKEN = (pa.ArrowException, StoreError, ValueError, OSError, RecursionError, MemoryError)


def told(error: BaseException) -> str:
    """What one of `BROKEN` says, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:300] or type(error).__name__


def parse(content: bytes, wanted: pa.Schema) -> pa.Table:
    """The rows in the bytes of a file; what they hold is still to be checked. Raises one of `BROKEN`."""
    file = pq.ParquetFile(pa.BufferReader(content))
    version = version_of(file)
    if version != SCHEMA_VERSION:
        raise VersionError(version)
    there = set(file.schema_arrow.names)  # made anew at every call, which takes as long as reading a column
    if missing := [n for n in wanted.names if n not in there]:
        raise StoreError(f"it lacks the columns {', '.join(missing)}")
    refuse_bombs(content, file.metadata, wanted.names)
    table, said = file.read(columns=wanted.names).cast(wanted), seals_in(file)
    if broken := [name for name, seal in seals(table).items() if said.get(name) != seal]:
        raise StoreError(
            "its checksum does not fit its content: it was damaged or changed after it was written "
            f"({', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''})"
        )
    return table


def version_of(file: pq.ParquetFile) -> int:
    """The schema's version that a file says, 0 where it says none."""
    text = (file.schema_arrow.metadata or {}).get(VERSION_KEY, b"0")
    return int(text) if text.isdigit() and len(text) < 10 else 0


def refuse_bombs(content: bytes, about: pq.FileMetaData, names: Sequence[str]) -> None:
    """Raise `StoreError` where columns would unpack to far more than their file. It says before it is read how long its
    pages are and how many values they hold. Of a value that a page names by its number in a dictionary it does not say
    how long it is: where this may matter, the dictionaries alone are read first.
    """
    limit = min(LARGE, SMALL + RATIO * len(content))
    wanted, used = set(names), 0
    doubtful: list[tuple[int, str]] = []
    for group in range(about.num_row_groups):
        row_group = about.row_group(group)
        for i in range(about.num_columns):
            chunk = row_group.column(i)
            if chunk.path_in_schema.partition(".")[0] not in wanted:
                continue
            size, values = chunk.total_uncompressed_size, chunk.num_values
            if min(size, values) < 0:
                raise StoreError("it says that it holds less than nothing")
            used += size + 8 * values
            if values > 1 and chunk.has_dictionary_page and chunk.physical_type.endswith("BYTE_ARRAY"):
                doubtful += [(group, chunk.path_in_schema)] if values * size > limit // 8 else []
            if used > limit:
                raise StoreError(_bomb(content, limit))
    for size in _sizes(content, doubtful):
        used += size
        if used > limit:
            raise StoreError(_bomb(content, limit))


def _bomb(content: bytes, limit: int) -> str:
    return f"its {len(content):,} bytes would unpack to more than {limit:,}, as those of no results do"


def _sizes(content: bytes, columns: Sequence[tuple[int, str]]) -> Iterator[int]:
    """Bytes of the values of columns (row group and path), with each value counted as often as it is named."""
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=sorted({path for _, path in columns}))
    for group, path in columns:
        for chunk in file.read_row_group(group, columns=[path]).column(0).chunks:
            leaf = chunk
            while not pa.types.is_dictionary(leaf.type):
                if pa.types.is_struct(leaf.type):
                    leaf = leaf.field(0)
                elif pa.types.is_list(leaf.type):
                    leaf = leaf.values
                else:
                    raise StoreError(f"its column {path} is no list, record or text")
            yield pc.sum(pc.binary_length(leaf.dictionary).cast(pa.int64()).take(leaf.indices)).as_py() or 0
