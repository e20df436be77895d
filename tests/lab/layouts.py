"""The same images and labels in every layout that is read."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from normbench.lab import data
from normbench.spec.trial import DataSpec
from PIL import Image

from tests.conftest import write_split


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, H, W) or (N, H, W, 3)."""

    images: np.ndarray
    labels: np.ndarray


def made(seed: int, count: int, side: int, channels: int, classes: int) -> Split:
    shape = (count, side, side, channels) if channels > 1 else (count, side, side)
    images = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return Split(images, np.arange(count) % classes)


def parquet(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    for name, split in (("train", train), ("test", test)):
        write_split(folder / f"{name}.parquet", split.images, split.labels, list(names))
    return folder


def class_folders(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    """Classes take turns in the splits of these tests, as they do when they are read."""
    for part, split in (("train", train), ("test", test)):
        for i, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = folder / part / names[label] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def npz(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    """Labels as MedMNIST has them, (N, 1)."""
    arrays = {}
    for name, split in (("train", train), ("val", test), ("test", test)):
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels[:, None].astype(np.uint8)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "set.npz", **arrays)
    return folder / "set.npz"


def _rows(split: Split) -> np.ndarray:
    return np.ascontiguousarray(split.images.transpose(0, 3, 1, 2)).reshape(len(split.labels), -1)


def cifar10(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True)
    for i, chosen in enumerate(np.array_split(np.arange(len(train.labels)), 5), 1):
        held = {b"data": _rows(train)[chosen], b"labels": train.labels[chosen].tolist(), b"batch_label": b"a batch"}
        (folder / f"data_batch_{i}").write_bytes(pickle.dumps(held, protocol=2))
    held = {b"data": _rows(test), b"labels": test.labels.tolist()}
    (folder / "test_batch").write_bytes(pickle.dumps(held, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [n.encode() for n in names]}, protocol=2))
    return folder


def cifar100(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True)
    for name, split in (("train", train), ("test", test)):
        held = {
            "data": _rows(split),
            "fine_labels": split.labels.tolist(),
            "coarse_labels": (split.labels // 2).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(held, protocol=2))
    coarse = [f"{names[i]} or {names[i + 1]}" for i in range(0, len(names) - 1, 2)]
    about = {"fine_label_names": list(names), "coarse_label_names": coarse}
    (folder / "meta").write_bytes(pickle.dumps(about, protocol=2))
    return folder


def mnist(folder: Path, train: Split, test: Split, names: Sequence[str], *, packed: bool = False) -> Path:
    (folder / "raw").mkdir(parents=True)
    for name, split in (("train", train), ("t10k", test)):
        for what, array in (("images", split.images), ("labels", split.labels.astype(np.uint8))):
            content = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            content += array.tobytes()
            path = folder / "raw" / f"{name}-{what}-idx{array.ndim}-ubyte"
            if packed:
                path = path.with_name(f"{path.name}.gz")
                content = gzip.compress(content)
            path.write_bytes(content)
    return folder


def mnist_packed(folder: Path, train: Split, test: Split, names: Sequence[str]) -> Path:
    return mnist(folder, train, test, names, packed=True)


Write = Callable[[Path, Split, Split, Sequence[str]], Path]
#: How each layout is written, its channels, and whether it keeps the names of classes.
LAYOUTS: dict[str, tuple[Write, int, bool]] = {
    "Parquet": (parquet, 3, True),
    "class folders": (class_folders, 3, True),
    "class folders, grey": (class_folders, 1, True),
    "npz": (npz, 3, False),
    "npz, grey": (npz, 1, False),
    "cifar-10": (cifar10, 3, True),
    "cifar-100": (cifar100, 3, True),
    "idx": (mnist, 1, False),
    "idx.gz": (mnist_packed, 1, False),
}
NAMES = ("ape", "bee", "cat", "dog")
#: Images of the splits that tests write.
TRAIN, TEST = 24, 8


def splits(channels: int) -> tuple[Split, Split]:
    return made(0, TRAIN, 32, channels, len(NAMES)), made(1, TEST, 32, channels, len(NAMES))


def source(path: Path, **spec: Any) -> data.Source:
    found = data.locate(DataSpec(dataset=str(path), **spec), None, download=False)
    assert found is not None
    return found
