"""Layouts that store pixels as arrays: what all of them share. Their sizes are checked before anything is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from math import prod

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from normbench.lab.data import _arrow
from normbench.lab.data._pixels import MOST_PIXELS
from normbench.lab.data._png import encoded
from normbench.lab.data._source import DataError, Shard

#: Bytes of pixels that are held at once, and most images of a batch.
_BATCH_BYTES = 2**25
_BATCH = 4096
#: Most bytes of pixels in one file (32 GiB): a few bytes can declare, and compress to, more than any memory holds.
MOST_BYTES = 2**35
#: Most bytes of all labels in one file.
MOST_LABEL_BYTES = 2**30

Read = Callable[[int], bytes]
"""Gives the next bytes of a stream, at most so many."""


class ArrayShard(Shard):
    """A file of pixels. `_shape` and `_labels` are what a layout says of it, `_stream` gives its bytes."""

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """As the file declares it: (N, H, W), or (N, H, W, C)."""

    @abstractmethod
    def _labels(self) -> npt.NDArray[np.generic]:
        """(N,) or (N, 1) integers or texts."""

    @abstractmethod
    def _pieces(self, images: int) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixels in order, as arrays of the declared shape but of at most so many images."""

    def rows(self) -> int:
        return self._checked()[0]

    def batches(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        count, height, width, channels = self._checked()
        labels = self._label_array(count)
        done = 0
        for piece in self._pieces(max(1, min(_BATCH, _BATCH_BYTES // (height * width * channels)))):
            images = encoded(piece.reshape(len(piece), height, width, channels))
            yield _arrow.blobs(images), labels[done : done + len(piece)]
            done += len(piece)

    def texts(self) -> list[str]:
        labels = self._label_array(self._checked()[0])
        return [] if pa.types.is_integer(labels.type) else sorted(set(labels.to_pylist()))

    def _checked(self) -> tuple[int, int, int, int]:
        """Images, height, width, channels. Raises `DataError`."""
        shape = self._shape()
        found = f"{self.path}: images of shape {shape}"
        if len(shape) == 4 and shape[1] in {1, 3} and shape[3] not in {1, 3}:
            raise DataError(f"{found}: the channels stand first; store them last, `images.transpose(0, 2, 3, 1)`")
        if len(shape) == 3:
            shape = (*shape, 1)
        if len(shape) != 4 or shape[3] not in {1, 3}:
            raise DataError(f"{found}: expected (N, H, W) or (N, H, W, 1) for grey, (N, H, W, 3) for RGB")
        if min(shape[1:]) < 1 or shape[1] * shape[2] > MOST_PIXELS or prod(shape) > MOST_BYTES:
            raise DataError(
                f"{found}: an image has 1 to {MOST_PIXELS:,} pixels, and all of a file at most {MOST_BYTES:,} bytes"
            )
        return shape[0], shape[1], shape[2], shape[3]

    def _label_array(self, count: int) -> pa.Array:
        labels = self._labels()
        if labels.shape not in {(count,), (count, 1)}:
            raise DataError(
                f"{self.path}: {count:,} images, and labels of shape {labels.shape}: expected one label an image"
            )
        if labels.dtype.kind == "U":
            try:
                return _arrow.texts(labels.reshape(-1).tolist())
            except UnicodeEncodeError as error:
                raise DataError(f"{self.path}: a label is no text: {error.reason}") from error
        if labels.dtype.kind not in "iu":
            raise DataError(f"{self.path}: labels of type {labels.dtype}: expected integers from 0 on, or texts")
        if labels.dtype == np.uint64 and count and labels.max() > np.iinfo(np.int64).max:
            raise DataError(f"{self.path}: the label {labels.max()} does not fit into 64 bits with a sign")
        return _arrow.numbers(labels.reshape(-1).astype(np.int64))


def pieces(read: Read, shape: tuple[int, ...], images: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Arrays of at most `images` images from a stream of bytes. Raises `EOFError` where it ends early."""
    size = prod(shape[1:])
    for start in range(0, shape[0], images):
        count = min(images, shape[0] - start)
        content = exactly(read, count * size)
        yield np.frombuffer(content, np.uint8).reshape(count, *shape[1:])


def exactly(read: Read, size: int) -> bytes:
    """So many bytes of a stream. Raises `EOFError` where it ends early."""
    parts: list[bytes] = []
    left = size
    while left:
        part = read(left)
        if not part:
            raise EOFError(f"it ends {left:,} bytes too early")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
