"""What a dataset holds: read from its Parquet files, and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from normbench.lab.data._labels import Labels
from normbench.lab.data._source import DataError, Source


@dataclass(frozen=True)
class Survey:
    """What reading a dataset once tells, without decoding an image."""

    fingerprint: str
    """SHA-256 over the stored images and labels in order; independent of how Parquet groups and compresses them."""
    train: Labels
    test: Labels | None
    """None where no test split was asked for."""
    names: tuple[str, ...]
    """Of the classes, as the files give them; empty where they give none."""


def fingerprint(source: Source) -> str:
    """That of a `Survey`. Raises `DataError`."""
    return survey(source).fingerprint


def survey(source: Source) -> Survey:
    """Read a dataset. Raises `DataError`.

    If the files name more classes than the labels show, their number is part of the fingerprint: it decides the size of
    the network's head.
    """
    total, found = hashlib.sha256(), []
    for files in filter(None, (source.train, source.test)):
        parts = [hashlib.sha256() for _ in range(3)]  # one a column, so that the size of the batches has no influence
        seen = Labels()
        for images, labels in stored(source, files):
            parts[0].update(integers(pc.binary_length(images)).tobytes())
            wide = np.int64 if pa.types.is_large_binary(images.type) else np.int32
            offsets = np.frombuffer(images.buffers()[1], wide)[images.offset : images.offset + len(images) + 1]
            if len(offsets) and offsets[0] < offsets[-1]:  # without a byte there may be no buffer
                parts[1].update(memoryview(images.buffers()[2])[offsets[0] : offsets[-1]])
            parts[2].update(labels.tobytes())
            seen.add(labels)
        found.append(seen)
        for part in parts:
            total.update(part.digest())
    names = class_names(source)
    if len(names) > max(labels.highest for labels in found) + 1:
        total.update(f"{len(names)} classes".encode())
    return Survey(total.hexdigest(), found[0], found[1] if found[1:] else None, tuple(names))


def stored(source: Source, files: tuple[Path, ...]) -> Iterator[tuple[pa.Array, npt.NDArray[np.int64]]]:
    """Encoded images and labels of these files, a batch at a time, in order. Raises `DataError`."""
    for path in files:
        try:
            file = pq.ParquetFile(path)
            image, label = _columns(source, file.schema_arrow, path)
            for batch in file.iter_batches(batch_size=4096, columns=[image, label]):
                column = batch.column(image)
                blobs = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
                if blobs.null_count or batch.column(label).null_count:
                    raise DataError(f"{path}: images and labels must not be null")
                yield blobs, integers(batch.column(label))
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise DataError(f"cannot read {path} as Parquet: {' '.join(str(error).split())[:200]}") from error


def integers(array: pa.Array) -> npt.NDArray[np.int64]:
    """The values of an array without nulls. Unlike `to_numpy`, this does not import pandas, which takes a second."""
    wide = array.cast(pa.int64())
    return (
        np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide)]
        if len(wide)
        else np.empty(0, np.int64)
    )


def _columns(source: Source, schema: pa.Schema, path: Path) -> tuple[str, str]:
    def image_like(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" and _binary(kind.field(i).type) for i in range(kind.num_fields))
        return _binary(kind)

    found: list[str] = []
    for role, chosen, fits, expected in (
        ("image", source.image, image_like, "encoded images (binary, or a struct with binary `bytes`)"),
        ("label", source.label, pa.types.is_integer, "integers from 0 on, one a class"),
    ):
        candidates = [f.name for f in schema if fits(f.type)]
        if chosen is None and len(candidates) == 1:
            chosen = candidates[0]
        if chosen is None or candidates.count(chosen) != 1:  # a name may be there twice
            raise DataError(f"{path}: {_no_column(role, chosen, candidates, schema, expected)}")
        found.append(chosen)
    return found[0], found[1]


def _binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _no_column(role: str, chosen: str | None, candidates: list[str], schema: pa.Schema, expected: str) -> str:
    """Why no column can be taken, and what to do about it."""
    held = ", ".join(f"{f.name} ({f.type if f.type.num_fields == 0 else 'nested'})" for f in schema)[:300]
    if not candidates:
        advice = "; encode them, as `class_encode_column` of Hugging Face datasets does" if role == "label" else ""
        return f"no column holds {role}s: expected {expected}, found {held or 'no columns'}{advice}"
    if chosen in schema.names and chosen not in candidates:
        return f"{role} column {chosen}: expected {expected}, found {held}; columns that could be it are " + ", ".join(
            candidates
        )
    return (
        f"{role} column {chosen or 'not named'}: columns that could be it are {', '.join(candidates)} "
        f"(of {', '.join(schema.names)}); set data.{role}_column"
    )


def class_names(source: Source) -> list[str]:
    """Names from the schemas' `huggingface` metadata; none where they have none. Raises `DataError` where two files
    name other classes: a label would mean one thing in training and another in the test.
    """
    first: list[str] = []
    for path in (*source.train, *source.test):
        names = _names_in(path, source.label)
        if first and names and names != first:
            raise DataError(f"{path} names the classes {_few(names)}, {source.train[0]} names them {_few(first)}")
        first = first or names
    return first


def _names_in(path: Path, label: str | None) -> list[str]:
    metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        label = label or next(k for k, v in features.items() if v.get("_type") == "ClassLabel")
        return [str(name) for name in features[label]["names"]]
    except (KeyError, ValueError, StopIteration, AttributeError, TypeError, RecursionError):
        return []


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:4])[:80]}{', ...' if len(names) > 4 else ''} ({len(names)})"
