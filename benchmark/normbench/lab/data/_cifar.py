"""CIFAR's own files (`cifar-10-batches-py`, `cifar-100-python`), as torchvision keeps them.

They are pickles, and loading a pickle can run any program: these are read without an unpickler.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normbench.lab.data._arrays import ArrayShard
from normbench.lab.data._pickled import plain
from normbench.lab.data._source import DataError

_SIDE = 32


@dataclass(frozen=True)
class Folder:
    """What one of the two folders holds. labels: of a file, the usual ones first, and under which name the file about
    all lists their classes.
    """

    title: str
    files: Mapping[str, tuple[str, ...]]
    about: str
    labels: Mapping[str, str]


FOLDERS = (
    Folder(
        "cifar-10",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "batches.meta",
        {"labels": "label_names"},
    ),
    Folder(
        "cifar-100",
        {"train": ("train",), "test": ("test",)},
        "meta",
        {"fine_labels": "fine_label_names", "coarse_labels": "coarse_label_names"},
    ),
)


@dataclass(frozen=True)
class Cifar(ArrayShard):
    """One file. labels: which of the file's; about: the file with the names of the classes, under `listed`."""

    path: Path
    labels: str
    about: Path
    listed: str

    @cached_property
    def _content(self) -> dict[str, Any]:
        return plain(self.path)

    def names(self) -> list[str]:
        found = _held(plain(self.about), self.listed, self.about)
        if not isinstance(found, list) or not all(isinstance(name, bytes | str) for name in found):
            raise DataError(f"{self.about}: {self.listed}: expected a list of names")
        return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in found]

    def _shape(self) -> tuple[int, ...]:
        return self._images().shape

    def _labels(self) -> npt.NDArray[np.generic]:
        found = _held(self._content, self.labels, self.path)
        if not isinstance(found, list) or not all(type(label) is int and abs(label) < 2**63 for label in found):
            raise DataError(f"{self.path}: {self.labels}: expected a list of integers")
        return np.array(found, np.int64)

    def _pieces(self, images: int) -> Iterator[npt.NDArray[np.uint8]]:
        whole = self._images()
        for start in range(0, len(whole), images):
            yield whole[start : start + images]

    def _images(self) -> npt.NDArray[np.uint8]:
        found = _held(self._content, "data", self.path)
        if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape[1:] != (3 * _SIDE**2,):
            raise DataError(f"{self.path}: data: expected an array of uint8, (N, {3 * _SIDE**2})")
        return found.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)


def _held(found: dict[str, Any], name: str, path: Path) -> Any:
    if name not in found:
        raise DataError(f"{path}: there is no {name!r}; it holds {', '.join(map(str, list(found)[:8]))[:200]}")
    return found[name]
