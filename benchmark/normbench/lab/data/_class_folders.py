"""Folders of classes, as torchvision's ImageFolder reads them: `train/CLASS/*.png`, at any depth below the class.

Images are dealt out over the classes, each class in the order of its files' names, so that any first or last part of
them (`train_examples`, `validation`) holds all classes in their shares. Labels are the names of the folders.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from normbench.lab.data import _arrow
from normbench.lab.data._source import DataError, Shard

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
#: Names of the folder with test images, where `test_split` names none: the first that is there.
TESTS = ("test", "val", "valid", "validation")
#: Bytes of encoded images that are held at once, and most images of a batch.
_BATCH_BYTES = 2**25
_BATCH = 4096
#: Most bytes of an image file, most files of a split, and most folders within each other.
MOST_BYTES = 2**28
MOST_FILES = 5_000_000
_DEEPEST = 16


@dataclass(frozen=True)
class ClassFolders(Shard):
    """One split. root: the dataset's folder, which no link may lead out of. whole: every class must have an image."""

    path: Path
    root: Path
    whole: bool = True

    def rows(self) -> int:
        return len(self._order)

    def names(self) -> list[str]:
        return []

    def texts(self) -> list[str]:
        return [name for name, files in self._classes.items() if files]

    def place(self, row: int) -> str:
        return str(self._file(row))

    def notes(self) -> list[str]:
        if not self._others:
            return []
        kinds = sorted(self._others.items(), key=lambda kind: (-kind[1], kind[0]))[:4]
        told = ", ".join(f"{n:,} {ending or 'without an ending'}" for ending, n in kinds)
        return [f"{self.path}: {self._others.total():,} files are no images by their names and are left out: {told}"]

    def batches(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        images: list[bytes] = []
        labels: list[str] = []
        held = 0
        for row, (number, _) in enumerate(self._order):
            images.append(_content(self._file(row)))
            labels.append(self._names[number])
            held += len(images[-1])
            if len(images) == _BATCH or held >= _BATCH_BYTES:
                yield _arrow.blobs(images), _arrow.texts(labels)
                images, labels, held = [], [], 0
        if images:
            yield _arrow.blobs(images), _arrow.texts(labels)

    def _file(self, row: int) -> Path:
        number, place = map(int, self._order[row])
        name = self._names[number]
        return self.path / name / self._classes[name][place]

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """(N, 2): for each image its class, and its place among the files of the class."""
        counts = [len(files) for files in self._classes.values()]
        numbers = np.repeat(np.arange(len(counts)), counts)
        places = np.concatenate([np.arange(count) for count in counts]) if counts else np.empty(0, np.int64)
        shares = (places + 0.5) / np.repeat(np.maximum(counts, 1), counts)
        return np.stack([numbers, places], axis=1)[np.lexsort((numbers, shares))].astype(np.int64)

    @cached_property
    def _names(self) -> list[str]:
        return list(self._classes)

    @property
    def _classes(self) -> dict[str, list[str]]:
        """Names of classes in sorted order, and their files by paths relative to the class."""
        return self._listed[0]

    @property
    def _others(self) -> Counter[str]:
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[dict[str, list[str]], Counter[str]]:
        """The classes, and what else lies there by its ending."""
        found: dict[str, list[str]] = {}
        others: Counter[str] = Counter()
        try:
            for entry in _sorted(self.path):
                if entry.name.startswith("."):
                    continue
                if not self._is_folder(entry):
                    others[_ending(entry.name)] += 1
                    continue
                _refuse_odd(entry.name, self.path)
                files = []
                for file in self._walk(entry.path, "", _DEEPEST):
                    if _ending(file) in SUFFIXES:
                        files.append(file)
                    else:
                        others[_ending(file)] += 1
                    if len(files) + others.total() > MOST_FILES:
                        raise DataError(f"{entry.path} holds more than {MOST_FILES:,} files")
                if self.whole and not files:
                    raise DataError(
                        f"class folder {entry.path} holds no image ({', '.join(sorted(SUFFIXES))}): fill it, or "
                        "remove it"
                    )
                found[entry.name] = sorted(files)
        except OSError as error:
            raise DataError(f"cannot read {error.filename or self.path}: {error.strerror}") from error
        if not any(found.values()):
            raise DataError(_no_classes(self.path, others))
        return found, others

    def _walk(self, folder: str, below: str, depth: int) -> Iterator[str]:
        """Files of a class by their paths relative to it."""
        if not depth:
            raise DataError(f"{folder}: more than {_DEEPEST} folders within each other")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{below}{entry.name}"
                if self._is_folder(entry):
                    yield from self._walk(entry.path, f"{name}/", depth - 1)
                else:
                    yield name

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Raises `DataError` for a link to a folder, or to what does not lie in the dataset."""
        if not entry.is_symlink():
            return entry.is_dir(follow_symlinks=False)
        target = Path(os.path.realpath(entry.path))
        if entry.is_dir() or not target.is_relative_to(os.path.realpath(self.root)):
            where = "to a folder" if entry.is_dir() else f"out of {self.root}"
            raise DataError(
                f"{entry.path} is a link {where}, which is not followed: copy the dataset with what its links lead to "
                f"(cp -rL)"
            )
        return False


def _content(path: Path) -> bytes:
    """A regular file's bytes. Raises `DataError`."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise DataError(f"{path} is no regular file")
            if about.st_size > MOST_BYTES:
                raise DataError(f"{path} has {about.st_size:,} bytes; an image has at most {MOST_BYTES:,}")
            return file.read(MOST_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _sorted(path: Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        found = []
        for entry in entries:
            found.append(entry)
            if len(found) > MOST_FILES:
                raise DataError(f"{path} holds more than {MOST_FILES:,} files")
        return sorted(found, key=lambda entry: entry.name)


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _refuse_odd(name: str, path: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{path}: the name of class folder {os.fsencode(name)!r} is no UTF-8: rename it, it becomes a class's name"
        ) from None


def _no_classes(path: Path, others: Counter[str]) -> str:
    lying = sum(count for ending, count in others.items() if ending in SUFFIXES)
    there = f"{lying:,} images lie in the folder itself" if lying else "there are none"
    return f"{path}: expected a folder for each class, with its images; {there}"
