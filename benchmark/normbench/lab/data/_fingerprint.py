"""What a dataset holds: read from its files, and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from normbench.lab.data import _arrow
from normbench.lab.data._arrow import integers
from normbench.lab.data._labels import Labels
from normbench.lab.data._source import DataError, Shard, Source


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
    for shards in filter(None, (source.train, source.test)):
        parts = [hashlib.sha256() for _ in range(3)]  # one a column, so that the size of the batches has no influence
        seen = Labels()
        for images, labels in stored(source, shards):
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


def stored(source: Source, shards: tuple[Shard, ...]) -> Iterator[tuple[pa.Array, npt.NDArray[np.int64]]]:
    """Encoded images and the numbers of their classes, a batch at a time, in order. Raises `DataError`."""
    for shard in shards:
        for images, labels in shard.batches():
            yield images, _numbered(source, shard, labels)


def _numbered(source: Source, shard: Shard, labels: pa.Array) -> npt.NDArray[np.int64]:
    """Numbers as they are; of texts, the places among the sorted texts of the training images."""
    if pa.types.is_integer(labels.type) is bool(source.texts):
        raise DataError(f"dataset {source.name!r}: labels are numbers in some files and texts in others ({shard.path})")
    if not source.texts:
        try:
            return integers(labels)
        except pa.ArrowException as error:
            raise DataError(f"{shard.path}: a label does not fit into 64 bits with a sign") from error
    numbers = pc.index_in(labels, value_set=_arrow.texts(source.texts))
    if numbers.null_count:
        unknown = sorted(set(labels.filter(pc.is_null(numbers)).to_pylist()))
        raise DataError(
            f"dataset {source.name!r}: test images have labels that no training image has: "
            f"{few(unknown)}; train and test must have the same classes"
        )
    return integers(numbers)


def class_names(source: Source) -> list[str]:
    """Names that the files give to the numbers of classes, or that stand in place of numbers; none where there are
    none. Raises `DataError` where two files name other classes: a label would mean one thing in training and another in
    the test.
    """
    if source.texts:
        return source.texts
    first: list[str] = []
    for shard in (*source.train, *source.test):
        names = shard.names()
        if first and names and names != first:
            raise DataError(
                f"{shard.path} names the classes {few(names)}, {source.train[0].path} names them {few(first)}"
            )
        first = first or names
    return first


def few(names: list[str]) -> str:
    """`a, b, c, d, ... (9)`."""
    return f"{', '.join(names[:4])[:80]}{', ...' if len(names) > 4 else ''} ({len(names)})"
