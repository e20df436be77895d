"""What a file of results says of its own rows: a SHA-256 of each column.

The digests are of the rows and not of the file: they are the same however Parquet groups and compresses the rows, and
whichever version of pyarrow writes them. A reader checks the columns that it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: Where a Parquet file keeps its seals: JSON, column to digest.
KEY = b"normbench.seals"
#: Hexadecimal digits of a column's digest. A digest finds damage, not forgery: whoever can write a row can seal it.
_DIGITS = 16

Seals = Mapping[str, str]


def seals(table: pa.Table) -> dict[str, str]:
    """The digest of each column of a table, by name."""
    return {name: _digest(table.column(name)) for name in table.column_names}


def seals_in(file: pq.ParquetFile) -> dict[str, str]:
    """The digests that a file holds; empty where it holds none."""
    try:
        found = json.loads((file.metadata.metadata or {}).get(KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def fingerprint(said: Seals) -> str:
    """SHA-256 over all digests of a file: names its rows, whatever the file is called."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest(column: pa.ChunkedArray) -> str:
    found = hashlib.sha256()
    _update(found, column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks))
    return found.hexdigest()[:_DIGITS]


def _update(found: Any, array: pa.Array) -> None:
    """Add an array: its kind, which of its values are null, and the other values. Lists and structs are added by their
    parts.
    """
    kind = array.type
    found.update(f"{len(array)} ".encode())
    # Most columns have no nulls, and a call into Arrow costs more than one row's worth of hashing.
    nulls = array.null_count
    found.update(_bytes(array.is_valid().cast(pa.uint8())) if nulls else b"\x01" * len(array))
    if pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            found.update(f"struct {kind.field(i).name} ".encode())
            _update(found, pc.struct_field(array, [i]))
    elif pa.types.is_list(kind):
        found.update(b"list ")
        lengths = pc.list_value_length(array)
        found.update(_bytes((_zeros_for_nulls(lengths) if nulls else lengths).cast(pa.int64())))
        _update(found, array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        found.update(f"{kind} ".encode())
        whole = array.fill_null("" if pa.types.is_string(kind) else b"") if nulls else array
        found.update(_bytes(pc.binary_length(whole).cast(pa.int64())))
        if len(whole):
            offsets = memoryview(whole.buffers()[1]).cast("i")[whole.offset : whole.offset + len(whole) + 1]
            found.update(memoryview(whole.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    else:
        found.update(f"{kind} ".encode())
        plain = pa.uint8() if pa.types.is_boolean(kind) else pa.int64() if pa.types.is_timestamp(kind) else kind
        numbers = array if kind == plain else array.cast(plain)
        found.update(_bytes(_zeros_for_nulls(numbers) if nulls else numbers))


def _zeros_for_nulls(array: pa.Array) -> pa.Array:
    """Numbers with 0 in the place of nulls. To make a scalar of 0, pyarrow would import pandas, for a second."""
    zeros = pa.py_buffer(bytes(len(array) * array.type.bit_width // 8))
    return pc.coalesce(array, pa.Array.from_buffers(array.type, len(array), [None, zeros]))


def _bytes(array: pa.Array) -> memoryview | bytes:
    """The values of an array of numbers without nulls, as they lie in memory."""
    width = array.type.bit_width // 8
    if not len(array):
        return b""
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
