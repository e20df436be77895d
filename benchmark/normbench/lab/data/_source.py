"""What is known of a dataset before it is read, and how its files give their images, whatever their layout."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from normbench.errors import BenchError

#: A name that cannot lead out of its folder, and that matches only itself as a pattern.
PLAIN = re.compile(r"\w[\w.@ +-]*")
#: Most classes that texts may name, and most characters of such a name. What has more is no column of labels.
MOST_CLASSES = 100_000
LONGEST_NAME = 200


class DataError(BenchError):
    """A dataset is missing or not in the image layout; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Hub:
    """A dataset on the Hugging Face hub: repository, folder of the configuration, columns; and the name of the folder
    in which torchvision keeps the same images.
    """

    repo: str
    folder: str | None = None
    image: str | None = None
    label: str | None = None
    unpacked: str | None = None


class Shard(ABC):
    """A part of a split, mostly one file. All layouts give the same plain values: encoded images, and labels. Methods
    raise `DataError` where the file cannot be read.
    """

    path: Path

    @abstractmethod
    def rows(self) -> int:
        """The number of images, without reading them."""

    @abstractmethod
    def batches(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Encoded images (binary or large binary) and their labels (integers or texts), in order, without nulls."""

    @abstractmethod
    def names(self) -> list[str]:
        """Of the classes that numbers stand for; none where the file gives none."""

    def texts(self) -> list[str]:
        """The different labels, where they are texts; none where they are numbers."""
        return []

    def place(self, row: int) -> str:
        """Where an image lies, for messages."""
        return f"{self.path}, row {row} (the first is 0)"

    def notes(self) -> list[str]:
        """What a reader should know of what was left out."""
        return []


@dataclass(frozen=True)
class Source:
    """The files of a dataset on this machine. `test` is empty for a candidate, which must not see it."""

    name: str
    train: tuple[Shard, ...]
    test: tuple[Shard, ...]
    layout: str = "Parquet"

    @cached_property
    def texts(self) -> list[str]:
        """Where labels are texts, those of the training images in sorted order: the first is class 0. Raises
        `DataError` for texts that cannot name classes.
        """
        found = sorted({text for shard in self.train for text in shard.texts()})
        problem = ""
        if any(len(text) > LONGEST_NAME for text in found):
            problem = f"some of its {len(found):,} texts have more than {LONGEST_NAME} characters"
        elif len(found) > MOST_CLASSES:
            problem = f"it holds {len(found):,} different texts, of at most {MOST_CLASSES:,}"
        if problem:
            raise DataError(f"dataset {self.name!r}: what was taken for labels names no classes: {problem}")
        return found
