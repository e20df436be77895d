"""CIFAR's own files (`cifar-10-batches-py`, `cifar-100-python`), as torchvision keeps them.

They are pickles, and loading a pickle can run any program. Of these, only dictionaries, lists, texts, numbers and plain
arrays are taken: the few names that such a pickle may look up lead to classes of this module that keep what they are
given; numpy sees no more than the bytes, once their number was checked.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normbench.lab.data._arrays import ArrayShard
from normbench.lab.data._source import DataError

#: Most bytes of a file. The largest of CIFAR, the training images of CIFAR-100, has 155 MB.
_MOST = 2**28
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


def plain(path: Path) -> dict[str, Any]:
    """What a pickle holds, if it is plain. Raises `DataError`."""
    try:
        if path.stat().st_size > _MOST:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {_MOST:,} are read")
        content = path.read_bytes()
        _refuse_far_memory(content)
        return _finished(_safe(content))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # a broken pickle may raise anything
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no pickle of plain arrays, lists and texts, and is not read: {said}") from error


def _refuse_far_memory(content: bytes) -> None:
    """A pickle may ask to keep a value at place 4,000,000,000 of a table, for which memory would be taken."""
    for count, (code, argument, _) in enumerate(pickletools.genops(content)):
        if "PUT" in code.name and argument is not None and int(argument) > count:
            raise pickle.UnpicklingError(f"it keeps a value at place {argument} of {count}")


def _safe(content: bytes) -> Any:
    # The classes are made anew each time: a pickle can change them.
    class Kind:
        """numpy.dtype"""

        def __init__(self, text: Any, *_: Any) -> None:
            self.text = text.decode("ascii") if isinstance(text, bytes) else text

        def __setstate__(self, state: Any) -> None:
            """Its byte order is of no use: what has more than one byte is refused."""

    class Array(_Kept):
        """numpy.ndarray"""

        def __setstate__(self, state: Any) -> None:
            _, self.shape, kind, self.columns_first, self.content = state
            self.kind = kind.text

    def encode(text: str, encoding: str) -> bytes:
        """As Python 3 writes bytes in protocol 2."""
        return text.encode("latin-1" if encoding == "latin1" else "ascii")

    array = {"_reconstruct": lambda *_: Array()}
    known: dict[str, dict[str, Any]] = {
        "numpy": {"ndarray": Array, "dtype": Kind},
        "numpy.core.multiarray": array,
        "numpy._core.multiarray": array,
        "_codecs": {"encode": encode},
    }

    class Safe(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            try:
                return known[module][name]
            except KeyError:
                raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    return Safe(io.BytesIO(content), encoding="bytes").load()


class _Kept:
    """An array as a pickle gives it."""

    shape: Any = None
    kind: Any = None
    columns_first: Any = None
    content: Any = None


def _finished(value: Any) -> dict[str, Any]:
    """The dictionary of a pickle, with keys as texts and arrays as arrays. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__}, expected a dictionary")
    found = {}
    for key, held in value.items():
        name = key.decode("ascii") if isinstance(key, bytes) else str(key)
        found[name] = _array(held) if isinstance(held, _Kept) else held
    return found


def _array(kept: _Kept) -> npt.NDArray[np.uint8]:
    shape, content = kept.shape, kept.content
    if kept.kind not in {"u1", "|u1", "uint8"} or kept.columns_first:
        raise ValueError(f"an array of type {kept.kind!s:.20}, expected uint8 in C's order")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    if not isinstance(content, bytes) or len(content) != prod(shape):
        raise ValueError(f"an array of shape {shape} with other bytes than it declares")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _held(found: dict[str, Any], name: str, path: Path) -> Any:
    if name not in found:
        raise DataError(f"{path}: there is no {name!r}; it holds {', '.join(map(str, list(found)[:8]))[:200]}")
    return found[name]
