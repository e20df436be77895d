"""Arrow arrays from plain values. `pyarrow.array` would import pandas, which takes a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def blobs(values: Sequence[bytes]) -> pa.Array:
    """Large binary."""
    return _pointed(values, pa.large_binary())


def texts(values: Sequence[str]) -> pa.Array:
    """Large string. Raises `UnicodeEncodeError` for halves of characters."""
    return _pointed([value.encode() for value in values], pa.large_string())


def numbers(values: npt.NDArray[np.int64]) -> pa.Array:
    """Int64 (N,)."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def integers(array: pa.Array) -> npt.NDArray[np.int64]:
    """The values of an array without nulls."""
    wide = array.cast(pa.int64())
    return (
        np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide)]
        if len(wide)
        else np.empty(0, np.int64)
    )


def _pointed(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])
