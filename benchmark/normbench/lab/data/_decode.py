"""Decoded datasets: arrays in this machine's cache, which all its workers map into memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from normbench.lab.data._cache import Arrays, DamagedError, arrays, decoded, made_once, write
from normbench.lab.data._fingerprint import class_names, fingerprint, stored
from normbench.lab.data._labels import Labels, classes_of
from normbench.lab.data._pixels import ImageError, pixels
from normbench.lab.data._source import DataError, Shard, Source
from normbench.spec.trial import DataSpec


@dataclass(frozen=True)
class Split:
    """`images` uint8 (N, H, W, C), `labels` int64 (N,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Decoded data, cut to what a trial asks for. `validation` is the held-out end of the training images; `test` is
    None where the source has none.
    """

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    train: Split
    validation: Split | None
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[3])

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[1])


class NotDecodedError(DataError):
    """The decoded images of a dataset are not in the cache, or damaged, and its files were not given."""


def load(spec: DataSpec, source: Source | None, known_fingerprint: str | None = None) -> Dataset:
    """Decode (or map what was decoded before) and cut to the sizes of `spec`. Raises `DataError`.

    source: may be None where the fingerprint is known and the arrays are decoded already; else `NotDecodedError`.
    """
    content = known_fingerprint or (fingerprint(source) if source else "")
    found, classes = _arrays(spec, source, content)
    if source:  # decoded images are shared by content, and another dataset may name its classes or not
        names = class_names(source)
        classes = tuple(names if len(names) == len(classes) else map(str, range(len(classes))))
    train = _first(found, spec.train_examples, spec, "train")
    test = _first(found, spec.test_examples, spec, "test") if "test_images" in found else None
    train, validation = _held_out(train, spec) if spec.validation > 0 else (train, None)
    if len(train.labels) > 1 and (train.labels == train.labels[0]).all():
        raise DataError(
            f"dataset {spec.dataset!r}: all {len(train.labels)} training images that are used are of class "
            f"{classes[train.labels[0]]!r}: there is nothing to classify"
        )
    mean, std = (spec.mean, spec.std) if spec.mean and spec.std else moments(train.images)
    channels = train.images.shape[3]
    if len(spec.mean or mean) != channels or len(spec.std or std) != channels:
        raise DataError(f"dataset {spec.dataset!r} has {channels} channels; mean and std need as many values")
    return Dataset(spec.dataset, content, classes, train, validation, test, spec.mean or mean, spec.std or std)


def _arrays(spec: DataSpec, source: Source | None, content: str) -> tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    """Arrays by name, and the names of the classes; decoded now where the cache has them not, or not as written."""
    folder = decoded(content, spec.image_size)
    try:
        return arrays(folder)
    except DamagedError as damage:
        if source is None:
            raise NotDecodedError(
                f"dataset {spec.dataset!r}: neither its files nor its decoded images are on this machine ({damage})"
            ) from damage
    with made_once(folder) as empty:
        if empty:
            write(empty, *_decode(source, spec.image_size))
    try:
        return arrays(folder)
    except DamagedError as damage:  # the disk gives back other bytes than were written
        raise DataError(f"decoded images cannot be read back: {damage}; BENCH_CACHE names another folder") from damage


def _first(found: Arrays, count: int | None, spec: DataSpec, part: str) -> Split:
    split = Split(found[f"{part}_images"], found[f"{part}_labels"])
    if count is not None and count > len(split.labels):
        raise DataError(
            f"dataset {spec.dataset!r} has {len(split.labels)} {part} images; {part}_examples asks for {count}"
        )
    return Split(split.images[:count], split.labels[:count])


def _held_out(train: Split, spec: DataSpec) -> tuple[Split, Split]:
    """Split off the last training images: those that are trained on, and those held out."""
    count = max(1, round(len(train.labels) * spec.validation))
    if count >= len(train.labels):
        raise DataError(
            f"dataset {spec.dataset!r}: validation {spec.validation:g} of {len(train.labels)} training images "
            "leaves none to train on"
        )
    return Split(train.images[:-count], train.labels[:-count]), Split(train.images[-count:], train.labels[-count:])


def moments(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in pixel space, exact from counts of the 256 values. images: (N, H,
    W, C).
    """
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[3]):
        share = (
            np.bincount(np.ascontiguousarray(images[..., channel]).ravel(), minlength=256) / images[..., channel].size
        )
        mean = float(share @ values)
        means.append(mean)
        stds.append(
            max(float(np.sqrt(share @ (values - mean) ** 2)), 1 / 255)
        )  # a constant channel is left unscaled rather than divided by zero
    return tuple(means), tuple(stds)


def _decode(source: Source, image_size: int | None) -> tuple[Arrays, list[str]]:
    """Arrays by name, and the names of the classes."""
    found: dict[str, npt.NDArray[Any]] = {}
    seen = {}
    for part, shards in (("train", source.train), ("test", source.test)):
        if not shards:
            continue
        images, labels = _decode_split(source, shards, image_size)
        found |= {f"{part}_images": images, f"{part}_labels": labels}
        seen[part] = Labels()
        seen[part].add(labels)
    if source.test and found["train_images"].shape[1:] != found["test_images"].shape[1:]:
        train, test = (found[f"{part}_images"].shape[1:] for part in ("train", "test"))
        raise DataError(unlike(source.name, train, test))
    return found, classes_of(source.name, seen["train"], seen.get("test"), class_names(source))


def _decode_split(
    source: Source, shards: tuple[Shard, ...], image_size: int | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images uint8 (N, H, W, C), labels int64 (N,). Grey images become RGB where others of the split are RGB."""
    images: list[npt.NDArray[np.uint8]] = []
    labels = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for shard in shards:
            row = 0
            for blobs, found in stored(source, (shard,)):
                decode = partial(decoded_image, source.name, shard, image_size)
                for array in pool.map(decode, blobs.to_pylist(), range(row, row + len(blobs))):
                    images.append(array)
                    if array.shape[0] != array.shape[1] or array.shape[:2] != images[0].shape[:2]:
                        raise DataError(
                            f"dataset {source.name!r}: images have the shapes {_shape(images[0].shape)} and "
                            f"{_shape(array.shape)} ({shard.place(row)}); set data.image_size to bring them to one "
                            "square size"
                        )
                    row += 1
                labels.append(found)
    if not images:
        raise DataError(f"dataset {source.name!r}: {', '.join(str(shard.path) for shard in shards)} holds no images")
    channels = max(array.shape[2] for array in images)
    whole = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for row, array in enumerate(images):
        whole[row] = array  # one channel is written to all three
    return whole, np.concatenate(labels)


def decoded_image(dataset: str, shard: Shard, side: int | None, blob: bytes, row: int) -> npt.NDArray[np.uint8]:
    """Pixels uint8 (H, W, C) of one stored image. Raises `DataError`, which says where it lies."""
    try:
        return pixels(blob, side)
    except ImageError as error:
        raise DataError(f"dataset {dataset!r}: {shard.place(row)}: an image cannot be decoded: {error}") from error


def unlike(dataset: str, train: tuple[int, ...], test: tuple[int, ...]) -> str:
    """What is said of a dataset whose training and test images differ in shape, (H, W, C)."""
    if train[:2] != test[:2]:
        advice = " (data.image_size brings them to one size)"
    else:
        advice = ": store all of them as grey, or all as RGB"
    said = f"training images are {_shape(train)}, test images {_shape(test)}"
    return f"dataset {dataset!r}: {said}; both must be alike{advice}"


def _shape(shape: tuple[int, ...]) -> str:
    """`28x28 RGB` of (H, W, C)."""
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
