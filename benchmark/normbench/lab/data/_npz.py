"""Numpy's archives in the layout of MedMNIST: arrays `train_images`, `train_labels`, and so for each split.

`numpy.load` would unpack a whole array, whatever it declares. Here the size that an array's header declares, the size
that the archive declares and the bounds are held against each other first, and pixels are read a batch at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from normbench.lab.data._arrays import MOST_BYTES, MOST_LABEL_BYTES, ArrayShard, exactly, pieces
from normbench.lab.data._source import DataError

SUFFIX = ".npz"


@dataclass(frozen=True)
class Npz(ArrayShard):
    """One split of an archive."""

    path: Path
    split: str

    def names(self) -> list[str]:
        return []

    def place(self, row: int) -> str:
        return f"{self.path}, {self.split}_images[{row}]"

    def _shape(self) -> tuple[int, ...]:
        with self._array(f"{self.split}_images", MOST_BYTES) as (_, shape, kind):
            if kind != np.uint8:
                advice = "scale pixels to 0..255, round them, and store them as uint8"
                raise DataError(f"{self.path}: {self.split}_images is of type {kind}, expected uint8: {advice}")
            return shape

    def _labels(self) -> npt.NDArray[np.generic]:
        with self._array(f"{self.split}_labels", MOST_LABEL_BYTES) as (file, shape, kind):
            return np.frombuffer(exactly(file.read, prod(shape) * kind.itemsize), kind).reshape(shape)

    def _pieces(self, images: int) -> Iterator[npt.NDArray[np.uint8]]:
        with self._array(f"{self.split}_images", MOST_BYTES) as (file, shape, _):
            yield from pieces(file.read, shape, images)

    @contextmanager
    def _array(self, name: str, most: int) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[np.generic]]]:
        """An array's bytes from their start on, its shape and its type. Raises `DataError`."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                member = next((m for m in archive.infolist() if m.filename == f"{name}.npy"), None)
                if member is None:
                    raise DataError(f"{self.path}: there is no array {name}; it holds {_held(archive)}")
                with archive.open(member) as file:
                    shape, in_order, kind = _header(file)
                    size = prod(shape) * kind.itemsize
                    if kind.hasobject or (len(shape) > 1 and not in_order):
                        raise DataError(f"{self.path}: {name} {_advice(kind)}")
                    if min(shape, default=0) < 0 or file.tell() + size != member.file_size or size > most:
                        raise DataError(
                            f"{self.path}: {name} declares {size:,} bytes (shape {shape}), the archive has "
                            f"{member.file_size - file.tell():,} of it; at most {most:,} are read"
                        )
                    yield file, shape, kind
        except DataError:
            raise
        except Exception as error:
            raise _broken(self.path, error) from error


def splits(path: Path) -> list[str]:
    """The splits that an archive holds. Raises `DataError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(m.removesuffix("_images.npy") for m in archive.namelist() if m.endswith("_images.npy"))
    except Exception as error:
        raise _broken(path, error) from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether rows stand one after the other, and type."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of numpy's format")
    shape, columns_first, kind = read(file)
    return shape, not columns_first, kind


def _advice(kind: np.dtype[np.generic]) -> str:
    if kind.hasobject:
        return "holds Python objects, which could run code when they are read: store plain arrays of numbers or texts"
    return "is stored in Fortran's order: store it as `numpy.ascontiguousarray` gives it"


def _held(archive: zipfile.ZipFile) -> str:
    names = [m.filename.removesuffix(".npy") for m in archive.infolist()]
    return f"{', '.join(names[:8])[:200]}{', ...' if len(names) > 8 else ''}" or "nothing"


def _broken(path: Path, error: Exception) -> DataError:
    """The readers of archives raise whatever their parsing meets, as those of images do."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return DataError(f"cannot read {path} as an archive of arrays: {said}")
