"""What was read of a dataset, in numbers that people can hold against what they know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from normbench.lab.data._decode import Dataset, Split, load, moments
from normbench.lab.data._fingerprint import fingerprint
from normbench.lab.data._source import Shard, Source
from normbench.spec.trial import DataSpec

#: Grey levels up to which images are said to be nearly empty: masks, or pixels in [0, 1] that were rounded.
_FEW_LEVELS = 2


@dataclass(frozen=True)
class Part:
    """One split. `mean` and `std`: of each channel, in pixel space [0, 1]."""

    files: tuple[str, ...]
    """What it was read from."""
    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    least: int
    """Of all pixel values, 0 to 255, as `largest`."""
    largest: int
    levels: int
    """How many of the 256 values occur."""
    counts: tuple[int, ...]
    """Images of each class."""


@dataclass(frozen=True)
class Look:
    """What was read, before anything is trained. `side`: height and width in pixels."""

    dataset: str
    layout: str
    fingerprint: str
    side: int
    channels: int
    classes: tuple[str, ...]
    train: Part
    test: Part
    notes: tuple[str, ...]
    """What may surprise, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def look(spec: DataSpec, source: Source) -> tuple[Look, Dataset]:
    """Decode a dataset with both splits (once: trials find it in the cache), and count. Raises `DataError`."""
    content = fingerprint(source)
    dataset = load(spec, source, content)
    assert dataset.test is not None  # noqa: S101
    train = _part(dataset.train, source.train, len(dataset.classes))
    test = _part(dataset.test, source.test, len(dataset.classes))
    notes = [note for shard in (*source.train, *source.test) for note in shard.notes()]
    notes += _surprises(dataset, train, test)
    found = Look(
        spec.dataset,
        source.layout,
        content,
        dataset.image_size,
        dataset.channels,
        dataset.classes,
        train,
        test,
        tuple(notes),
    )
    return found, dataset


def _part(split: Split, shards: Sequence[Shard], classes: int) -> Part:
    mean, std = moments(split.images)
    seen = np.flatnonzero(np.bincount(np.ravel(split.images), minlength=256))
    counts = np.bincount(split.labels, minlength=classes)
    files = tuple(str(shard.path) for shard in shards)
    return Part(files, len(split.labels), mean, std, int(seen[0]), int(seen[-1]), len(seen), tuple(map(int, counts)))


def _surprises(dataset: Dataset, train: Part, test: Part) -> list[str]:
    found = []
    labels = dataset.train.labels
    if len(labels) > 2 and (np.diff(labels) >= 0).all():
        found.append(
            "training images stand class by class: train_examples and validation, which take the first and the last "
            "ones, would take whole classes"
        )
    for name, part in (("training", train), ("test", test)):
        if part.levels <= _FEW_LEVELS:
            found.append(f"{name} images have {part.levels} grey levels: were pixels in [0, 1] stored as 0 and 1?")
        if lacking := [c for c, count in zip(dataset.classes, part.counts, strict=True) if not count]:
            few = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
            found.append(f"{len(lacking)} of {len(dataset.classes)} classes have no {name} image: {few}")
    return found
