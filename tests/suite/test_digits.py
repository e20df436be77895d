"""The embedded digits are what their README says."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from normbench.paths import shipped
from PIL import Image

FOLDER = shipped("suites", "data", "digits")


def _read(split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[str]]:
    table = pq.read_table(FOLDER / f"{split}.parquet")
    images = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in table["img"].to_pylist()]
    return np.stack(images), table["label"].to_numpy(), [row["path"] for row in table["img"].to_pylist()]


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_digits", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sizes_classes_and_layout() -> None:
    for split, count in (("train", 1437), ("test", 360)):
        images, labels, _ = _read(split)
        assert images.shape == (count, 8, 8)
        assert images.dtype == np.uint8
        assert set(labels) == set(range(10))
    features = json.loads(pq.read_schema(FOLDER / "train.parquet").metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == [str(i) for i in range(10)]


def test_prefixes_are_balanced() -> None:
    for split, length in (("train", 1380), ("test", 360)):
        labels = _read(split)[1][:length]
        seen = np.cumsum(labels[:, None] == np.arange(10), axis=0)
        assert (seen.max(axis=1) - seen.min(axis=1)).max() <= 1


def test_pixels_are_the_source_scaled() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    rows: list[int] = []
    for split in ("train", "test"):
        images, labels, paths = _read(split)
        index = [int(path.removesuffix(".png")) for path in paths]
        np.testing.assert_array_equal(labels, digits.target[index])
        np.testing.assert_array_equal(np.rint(images.astype(float) * 16 / 255), digits.images[index])
        assert np.abs(images - digits.images[index] * 255 / 16).max() <= 0.5
        rows += index
    assert sorted(rows) == list(range(1797)), "every image once"


def test_the_script_makes_the_same_files_again(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    maker = _maker()
    maker.write(tmp_path)
    for split in ("train", "test"):
        here, again = FOLDER / f"{split}.parquet", tmp_path / f"{split}.parquet"
        assert pq.read_table(again).equals(pq.read_table(here), check_metadata=True)
        if (
            pq.ParquetFile(here).metadata.created_by == pq.ParquetFile(again).metadata.created_by
        ):  # other versions of Arrow write other bytes
            assert again.read_bytes() == here.read_bytes()
