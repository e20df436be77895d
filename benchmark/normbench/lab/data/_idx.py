"""MNIST's own files (`train-images-idx3-ubyte` and the like), compressed by gzip or not, as torchvision keeps them.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from normbench.lab.data._arrays import MOST_BYTES, MOST_LABEL_BYTES, ArrayShard, Read, exactly, pieces
from normbench.lab.data._source import DataError

#: What a file starts with: two zeros, 8 for bytes without sign, the number of axes.
_MAGIC = b"\0\0\x08"


@dataclass(frozen=True)
class Idx(ArrayShard):
    """The images of one split, and the file with their labels."""

    path: Path
    label_path: Path

    def names(self) -> list[str]:
        return []

    def _shape(self) -> tuple[int, ...]:
        with _opened(self.path, 3, MOST_BYTES) as (_, shape):
            return shape

    def _labels(self) -> npt.NDArray[np.generic]:
        with _opened(self.label_path, 1, MOST_LABEL_BYTES) as (read, shape):
            labels = np.frombuffer(exactly(read, shape[0]), np.uint8)
            _end(read)
            return labels

    def _pieces(self, images: int) -> Iterator[npt.NDArray[np.uint8]]:
        with _opened(self.path, 3, MOST_BYTES) as (read, shape):
            yield from pieces(read, shape, images)
            _end(read)


@contextmanager
def _opened(path: Path, axes: int, most: int) -> Iterator[tuple[Read, tuple[int, ...]]]:
    """What reads a file's values, and its shape. Raises `DataError`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = exactly(file.read, 4)
            if magic != _MAGIC + bytes([axes]):
                raise DataError(f"{path}: it starts with {magic!r}, expected {_MAGIC + bytes([axes])!r}")
            shape = tuple(int.from_bytes(exactly(file.read, 4), "big") for _ in range(axes))
            if prod(shape) > most:
                raise DataError(f"{path}: it declares {prod(shape):,} bytes (shape {shape}); at most {most:,} are read")
            yield file.read, shape
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error


def _end(read: Read) -> None:
    if read(1):
        raise EOFError("it holds more bytes than it declares")
