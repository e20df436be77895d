"""Decoded datasets: arrays in this machine's cache, which all its workers map into memory."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from normbench.lab.data._fingerprint import class_names, fingerprint, stored
from normbench.lab.data._source import DataError, Source
from normbench.paths import cache_dir
from normbench.spec.trial import DataSpec

#: Raised by hand when decoding changes, so that arrays in the cache of an older version are not used.
DECODING = 1


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


def decoded(content: str, image_size: int | None) -> Path:
    """The folder of this machine's cache for a dataset with this fingerprint, decoded to this size. It is complete if
    it has `done.json`.
    """
    return cache_dir() / "data" / f"{content[:32]}-v{DECODING}-{image_size or 'stored'}"


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Yield an empty folder to fill, which takes the name `folder` at the end; None where that folder is complete
    already.

    Other processes of this machine wait meanwhile, so a dataset is decoded or fetched once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, or the process dies
        if (folder / "done.json").is_file():
            yield None
            return
        made = Path(tempfile.mkdtemp(prefix=".decoding-", dir=folder.parent))
        try:
            yield made
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def load(spec: DataSpec, source: Source | None, known_fingerprint: str | None = None) -> Dataset:
    """Decode (or map what was decoded before) and cut to the sizes of `spec`. Raises `DataError`.

    source: may be None where the fingerprint is known and the arrays are decoded already.
    """
    content = known_fingerprint or (fingerprint(source) if source else "")
    folder = decoded(content, spec.image_size)
    if not (content and (folder / "done.json").is_file()):
        if source is None:
            raise DataError(f"dataset {spec.dataset!r}: neither its files nor its decoded images are on this machine")
        with made_once(folder) as empty:
            if empty:
                _decode(source, spec.image_size, empty)
    about = json.loads((folder / "done.json").read_text())
    train = _first(_stored_split(folder, "train"), spec.train_examples, spec, "train")
    tested = bool(source.test) if source else (folder / "test_images.npy").is_file()
    test = _first(_stored_split(folder, "test"), spec.test_examples, spec, "test") if tested else None
    train, validation = _held_out(train, spec) if spec.validation > 0 else (train, None)
    mean, std = (spec.mean, spec.std) if spec.mean and spec.std else moments(train.images)
    channels = train.images.shape[3]
    if len(spec.mean or mean) != channels or len(spec.std or std) != channels:
        raise DataError(f"dataset {spec.dataset!r} has {channels} channels; mean and std need as many values")
    return Dataset(
        spec.dataset, content, tuple(about["classes"]), train, validation, test, spec.mean or mean, spec.std or std
    )


def _stored_split(folder: Path, part: str) -> Split:
    return Split(
        np.load(folder / f"{part}_images.npy", mmap_mode="r"), np.load(folder / f"{part}_labels.npy", mmap_mode="r")
    )


def _first(split: Split, count: int | None, spec: DataSpec, part: str) -> Split:
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


def _decode(source: Source, image_size: int | None, folder: Path) -> None:
    highest = -1
    for part, files in (("train", source.train), ("test", source.test)):
        if not files:
            continue
        images, labels = _decode_split(source, files, image_size)
        highest = max(highest, int(labels.max()))
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", labels)
    names = class_names(source)
    classes = names if len(names) > highest else [str(i) for i in range(highest + 1)]
    (folder / "done.json").write_text(json.dumps({"classes": classes}))


def _decode_split(
    source: Source, files: tuple[Path, ...], image_size: int | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from PIL import Image, UnidentifiedImageError

    def decode(blob: bytes) -> npt.NDArray[np.uint8]:
        try:
            image: Image.Image = Image.open(io.BytesIO(blob))
            image = image.convert("L" if image.mode in {"1", "L", "I;16"} else "RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"dataset {source.name!r}: an image cannot be decoded: {error}") from error
        if image_size is not None and image.size != (image_size, image_size):
            image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[..., None] if array.ndim == 2 else array

    images: list[npt.NDArray[np.uint8]] = []
    labels = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for blobs, found in stored(source, files):
            images.extend(pool.map(decode, blobs.to_pylist()))
            labels.append(found)
    shapes = {a.shape for a in images}
    if not shapes:
        raise DataError(f"dataset {source.name!r}: {', '.join(map(str, files))} holds no images")
    if len(shapes) > 1 or (shape := next(iter(shapes)))[0] != shape[1]:
        raise DataError(
            f"dataset {source.name!r}: images have the shapes {sorted(shapes)[:4]}; set data.image_size to bring "
            "them to one square size"
        )
    targets = np.concatenate(labels)
    if targets.min() < 0:
        raise DataError(f"dataset {source.name!r}: labels must be 0 or more, found {targets.min()}")
    return np.stack(images), targets
