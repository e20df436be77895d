"""Seals: what a column's digest is of, and what it does not depend on."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench.store.seal import KEY, fingerprint, seals, seals_in

STAMP = pa.timestamp("ms", "UTC")
STRUCT = pa.struct([("x", pa.int64()), ("y", pa.string())])


def _ints(*values: int) -> bytes:
    return np.array(values, np.int64).tobytes()


#: A column, its type and the bytes that its digest is of: length, which values are null, kind, values.
FORMS: dict[str, tuple[pa.DataType, list[Any], bytes]] = {
    "integers": (pa.int64(), [1, None, -3], b"3 \1\0\1int64 " + _ints(1, 0, -3)),
    "small integers": (pa.int32(), [7, 8], b"2 \1\1int32 " + np.array([7, 8], np.int32).tobytes()),
    "floats": (pa.float64(), [0.5, None], b"2 \1\0double " + np.array([0.5, 0]).tobytes()),
    "truths": (pa.bool_(), [True, None, False], b"3 \1\0\1bool \1\0\0"),
    "times": (
        STAMP,
        [datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), None],
        b"2 \1\0timestamp[ms, tz=UTC] " + _ints(2000, 0),
    ),
    "texts": (pa.string(), ["ab", None, "", "é"], b"4 \1\0\1\1string " + _ints(2, 0, 0, 2) + b"ab\xc3\xa9"),
    "words": (pa.string(), ["a", "bc"], b"2 \1\1string " + _ints(1, 2) + b"abc"),
    "bytes": (pa.binary(), [b"\0", None], b"2 \1\0binary " + _ints(1, 0) + b"\0"),
    "nothing": (pa.string(), [], b"0 string "),
    "no text": (pa.string(), ["", None], b"2 \1\0string " + _ints(0, 0)),
    "lists": (
        pa.list_(pa.int64()),
        [[1, 2], None, [], [3]],
        b"4 \1\0\1\1list " + _ints(2, 0, 0, 1) + b"3 \1\1\1int64 " + _ints(1, 2, 3),
    ),
    "structs": (
        STRUCT,
        [{"x": 1, "y": "a"}, None],
        b"2 \1\0struct x 2 \1\0int64 " + _ints(1, 0) + b"struct y 2 \1\0string " + _ints(1, 0) + b"a",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_digest_is_of_these_bytes(name: str) -> None:
    """All results that are stored rest on this form."""
    kind, values, expected = FORMS[name]
    array = pa.array(values, kind)
    digest = hashlib.sha256(expected).hexdigest()[:16]
    assert seals(pa.table({"a": array, "b": array})) == {"a": digest, "b": digest}


@pytest.mark.parametrize("name", FORMS)
def test_how_rows_are_grouped_does_not_count(name: str) -> None:
    kind, values, _ = FORMS[name]
    whole = pa.array(values, kind)
    padded = pa.array([*values, None, *values, *values], kind)
    for column in (
        pa.chunked_array([whole[:1], whole[1:]]),
        pa.chunked_array([whole[:0], whole[:1], whole[1:2], whole[2:]], kind),
        pa.chunked_array([padded.slice(len(values) + 1, len(values))]),
    ):
        assert seals(pa.table({"a": column})) == seals(pa.table({"a": whole}))


def test_what_lies_in_memory_beneath_a_null_does_not_count() -> None:
    first = pa.py_buffer(b"\1")  # a bitmap: the first value is there
    starts = pa.py_buffer(np.array([0, 1, 3], np.int32))
    dirty = {
        "number": pa.Array.from_buffers(pa.int64(), 2, [first, pa.py_buffer(_ints(5, 9))]),
        "text": pa.Array.from_buffers(pa.string(), 2, [first, starts, pa.py_buffer(b"abc")]),
        "list": pa.Array.from_buffers(pa.list_(pa.int64()), 2, [first, starts], children=[pa.array([1, 2, 3])]),
    }
    clean = {"number": [5, None], "text": ["a", None], "list": [[1], None]}
    assert pa.table(dirty).to_pydict() == clean
    assert seals(pa.table(dirty)) == seals(pa.table(clean))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (pa.string(), ["ab", "c"], ["a", "bc"]),
        (pa.string(), [None], [""]),
        (pa.int64(), [None], [0]),
        (pa.list_(pa.int64()), [[1], [2]], [[1, 2], []]),
        (pa.list_(pa.int64()), [None], [[]]),
        (STRUCT, [None], [{"x": None, "y": None}]),
    ],
)
def test_what_differs_has_another_digest(kind: pa.DataType, one: list[Any], other: list[Any]) -> None:
    assert seals(pa.table({"a": pa.array(one, kind)})) != seals(pa.table({"a": pa.array(other, kind)}))


@pytest.mark.parametrize(
    ("said", "expected"),
    [(None, {}), (b"", {}), (b"{", {}), (b"\xff", {}), (b"[1]", {}), (b"null", {}), (b'{"a": "0"}', {"a": "0"})],
)
def test_a_file_that_says_nothing_readable_says_nothing(said: bytes | None, expected: dict[str, str]) -> None:
    buffer = io.BytesIO()
    table = pa.table({"a": [1]})
    pq.write_table(table if said is None else table.replace_schema_metadata({KEY: said}), buffer)
    buffer.seek(0)
    assert seals_in(pq.ParquetFile(buffer)) == expected


def test_a_fingerprint_is_of_the_digests_by_name() -> None:
    expected = hashlib.sha256(b'{"a": "0", "b": "1"}').hexdigest()
    assert fingerprint({"b": "1", "a": "0"}) == fingerprint({"a": "0", "b": "1"}) == expected
