"""Datasets of encoded images for tests: any bytes, any labels, any files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from normbench.lab import data
from normbench.spec.trial import DataSpec
from PIL import Image


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stored = io.BytesIO()
    image.save(stored, form, **options)
    return stored.getvalue()


def noise(seed: int = 0, side: int = 6, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def put(
    path: Path,
    blobs: Sequence[bytes],
    labels: Sequence[Any] | None = None,
    *,
    images: pa.DataType | None = None,
    label: pa.DataType | None = None,
    metadata: dict[bytes, bytes] | None = None,
) -> None:
    """A Parquet file with columns `image` and `label`; labels: 0 and 1 in turn."""
    numbers = labels if labels is not None else [i % 2 for i in range(len(blobs))]
    columns = {"image": pa.array(blobs, images or pa.binary()), "label": pa.array(numbers, label)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def both(folder: Path, blobs: Sequence[bytes], labels: Sequence[Any] | None = None, **options: Any) -> None:
    """The same file as train and test."""
    for split in ("train", "test"):
        put(folder / f"{split}.parquet", blobs, labels, **options)


def load(folder: Path, **spec: Any) -> data.Dataset:
    """What the data layer makes of a folder. Raises `DataError`."""
    asked = DataSpec(dataset=f"{folder}", **spec)
    source = data.locate(asked, None, download=False)
    assert source is not None
    return data.load(asked, source)
