"""What a dataset holds: read from its Parquet files, and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from normbench.lab.data._source import DataError, Source


def fingerprint(source: Source) -> str:
    """SHA-256 over the stored images and labels in order; independent of how Parquet groups and compresses them.

    If the files name more classes than the labels show, their number is part of it: it decides the size of the
    network's head.
    """
    total, highest = hashlib.sha256(), -1
    for files in filter(None, (source.train, source.test)):
        parts = [hashlib.sha256() for _ in range(3)]  # one a column, so that the size of the batches has no influence
        for images, labels in stored(source, files):
            parts[0].update(integers(pc.binary_length(images)).tobytes())
            wide = np.int64 if pa.types.is_large_binary(images.type) else np.int32
            offsets = np.frombuffer(images.buffers()[1], wide)[images.offset : images.offset + len(images) + 1]
            parts[1].update(memoryview(images.buffers()[2])[offsets[0] : offsets[-1]])
            parts[2].update(labels.tobytes())
            highest = max(highest, int(labels.max(initial=-1)))
        for part in parts:
            total.update(part.digest())
    if (classes := len(class_names(source))) > highest + 1:
        total.update(f"{classes} classes".encode())
    return total.hexdigest()


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
        except (pa.ArrowException, OSError) as error:
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
        return pa.types.is_binary(kind) or (
            pa.types.is_struct(kind) and any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        )

    found: list[str] = []
    for role, chosen, fits in (("image", source.image, image_like), ("label", source.label, pa.types.is_integer)):
        candidates = [f.name for f in schema if fits(f.type)]
        if chosen is None and len(candidates) == 1:
            chosen = candidates[0]
        if chosen is None or chosen not in candidates:
            raise DataError(
                f"{path}: {role} column {chosen or 'not named'}: columns that could be it are "
                f"{', '.join(candidates) or 'none'} "
                f"(of {', '.join(schema.names)}); set data.{role}_column"
            )
        found.append(chosen)
    return found[0], found[1]


def class_names(source: Source) -> list[str]:
    """Names from the schema's `huggingface` metadata; none where it has none."""
    metadata: dict[bytes, bytes] = pq.read_schema(source.train[0]).metadata or {}
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        label = source.label or next(k for k, v in features.items() if v.get("_type") == "ClassLabel")
        return [str(name) for name in features[label]["names"]]
    except (KeyError, ValueError, StopIteration, AttributeError, TypeError):
        return []
