"""Datasets: found, fingerprinted, decoded once to uint8 arrays that all workers of a machine map into memory.

Nothing here imports torch, so that planning can ask for a dataset's fingerprint.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from normbench.errors import BenchError
from normbench.paths import cache_dir, shipped
from normbench.spec.trial import DataSpec

#: Raised when decoding changes, so that arrays cached by an older version are left alone.
DECODING = 1


class DataError(BenchError):
    """A dataset is missing or not in the image layout; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Hub:
    """A dataset on the Hugging Face hub: repository, folder of the configuration, columns."""

    repo: str
    folder: str | None = None
    image: str | None = None
    label: str | None = None


#: Short names, read at the hub in 2026.
HUB = {
    "cifar10": Hub("uoft-cs/cifar10", "plain_text", "img", "label"),
    "cifar100": Hub("uoft-cs/cifar100", "cifar100", "img", "fine_label"),
    "svhn": Hub("ufldl-stanford/svhn", "cropped_digits", "image", "label"),
}
SHIPPED = ("digits",)
#: A name that stays within its folder and stands for itself in a pattern.
_PLAIN = re.compile(r"\w[\w.@ +-]*")


@dataclass(frozen=True)
class Source:
    """The Parquet files of a dataset on this machine; `test` is empty for those who must not see it."""

    name: str
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    image: str | None
    label: str | None


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


def locate(spec: DataSpec, data_dir: Path | None, *, download: bool, test: bool = True) -> Source | None:
    """Find a dataset's files: `data_dir`, what ships with the package, a path, then the hub (its local cache only
    unless `download`).

    test: whether the test split belongs to it; without, it is neither looked for nor part of the fingerprint.
    Returns None when only a download could bring it and `download` is off. Raises `DataError` when it cannot be found.
    """
    name = spec.dataset
    for what, text in (("train_split", spec.train_split), ("test_split", spec.test_split)):
        if not _PLAIN.fullmatch(text):
            raise DataError(f"dataset {name!r}: {what} {text!r} is no name of a split: letters, digits, _, - and .")
    splits = (spec.train_split, spec.test_split) if test else (spec.train_split,)
    if name.startswith("hub:"):
        repo, _, folder = name.removeprefix("hub:").partition(":")
        return _from_hub(name, Hub(repo, folder or None), spec, splits, download=download)
    if "/" in name or "\\" in name:  # a path that the suite's author chose
        return _from_folder(Path(name).expanduser(), spec, Hub(""), splits)
    if data_dir is not None and _PLAIN.fullmatch(name) and (data_dir / name).is_dir():
        return _from_folder(data_dir / name, spec, HUB.get(name, Hub("")), splits)
    if name in SHIPPED:
        return _from_folder(shipped("suites", "data", name), spec, Hub(""), splits)
    if name in HUB:
        return _from_hub(name, HUB[name], spec, splits, download=download)
    known = sorted({*HUB, *SHIPPED, *(folders(data_dir) if data_dir else ())})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    where = f"no folder {name!r} in {data_dir}" if data_dir else "no data folder is set (--data or BENCH_DATA)"
    raise DataError(
        f"there is no dataset {name!r}: {where}; {hint}. Others: hub:owner/name, or a path to a folder with "
        "train.parquet and test.parquet"
    )


def folders(data_dir: Path) -> list[str]:
    """Names of the datasets in a data folder: its folders that hold train.parquet and test.parquet."""
    if not data_dir.is_dir():
        return []
    return sorted(
        d.name for d in data_dir.iterdir() if (d / "train.parquet").is_file() and (d / "test.parquet").is_file()
    )


def _from_folder(folder: Path, spec: DataSpec, hub: Hub, splits: Sequence[str]) -> Source:
    files: list[tuple[Path, ...]] = []
    for split in splits:
        found = sorted(folder.glob(f"{split}.parquet")) or sorted(folder.glob(f"**/{split}-*-of-*.parquet"))
        if not found:
            raise DataError(
                f"dataset {spec.dataset!r}: expected {folder / f'{split}.parquet'} (or {split}-*-of-*.parquet below "
                "it), found no such file"
            )
        files.append(tuple(found))
    return Source(
        spec.dataset,
        files[0],
        files[1] if files[1:] else (),
        spec.image_column or hub.image,
        spec.label_column or hub.label,
    )


def _from_hub(name: str, hub: Hub, spec: DataSpec, splits: Sequence[str], *, download: bool) -> Source | None:
    if (
        not all(_PLAIN.fullmatch(part) for part in (*hub.repo.split("/"), *(hub.folder or "all").split("/")))
        or hub.repo.count("/") != 1
    ):
        raise DataError(f"dataset {name!r}: expected hub:owner/name or hub:owner/name:configuration")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    below = f"{hub.folder}/" if hub.folder else "**/"
    patterns = [f"{below}{split}-*.parquet" for split in splits] + (
        [] if hub.folder else [f"{split}-*.parquet" for split in splits]
    )
    try:
        root = Path(
            snapshot_download(hub.repo, repo_type="dataset", allow_patterns=patterns, local_files_only=not download)
        )
    except LocalEntryNotFoundError as error:
        if not download and os.environ.get("HF_HUB_OFFLINE", "0") in {"0", ""}:
            return None
        raise _unreachable(name, hub, error) from error
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise _unreachable(name, hub, error) from error
    files: list[tuple[Path, ...]] = []
    for split in splits:
        found = sorted(p for pattern in patterns for p in root.glob(pattern) if p.name.startswith(f"{split}-"))
        configurations = sorted({p.parent.relative_to(root).as_posix() for p in found})
        if len(configurations) > 1:
            raise DataError(
                f"dataset {name!r} has several configurations: {', '.join(configurations)}; write "
                f"hub:{hub.repo}:{configurations[0]}"
            )
        if not found:
            if not download:
                return None
            raise DataError(
                f"dataset {name!r}: {hub.repo} on the hub has no "
                f"{split}-*.parquet{f' in {hub.folder}/' if hub.folder else ''}"
            )
        files.append(tuple(dict.fromkeys(found)))
    return Source(
        name, files[0], files[1] if files[1:] else (), spec.image_column or hub.image, spec.label_column or hub.label
    )


def _unreachable(name: str, hub: Hub, error: Exception) -> DataError:
    short = " ".join(str(error).split())[:160]
    folder = name if not name.startswith("hub:") else "NAME"
    return DataError(
        f"dataset {name!r} is not on this machine and could not be fetched from the hub ({hub.repo}: "
        f"{type(error).__name__}: {short}). "
        f"Either connect to the network once, or put train.parquet and test.parquet into a folder {folder!r} and "
        "point --data (or BENCH_DATA) at its parent. "
        "Without either, `bench run digits` runs on data that ships with the package"
    )


def fingerprint(source: Source) -> str:
    """SHA-256 over the stored images and labels in order; independent of how Parquet groups and compresses them.

    A number of classes that the files name and the labels do not show is part of it: it decides the size of the
    network's head.
    """
    total, highest = hashlib.sha256(), -1
    for files in filter(None, (source.train, source.test)):
        parts = [
            hashlib.sha256() for _ in range(3)
        ]  # one a column, so that the batches in which it is read leave no trace
        for images, labels in stored(source, files):
            parts[0].update(_integers(pc.binary_length(images)).tobytes())
            wide = np.int64 if pa.types.is_large_binary(images.type) else np.int32
            offsets = np.frombuffer(images.buffers()[1], wide)[images.offset : images.offset + len(images) + 1]
            parts[1].update(memoryview(images.buffers()[2])[offsets[0] : offsets[-1]])
            parts[2].update(labels.tobytes())
            highest = max(highest, int(labels.max(initial=-1)))
        for part in parts:
            total.update(part.digest())
    if (classes := len(_class_names(source))) > highest + 1:
        total.update(f"{classes} classes".encode())
    return total.hexdigest()


def stored(source: Source, files: tuple[Path, ...]) -> Iterator[tuple[pa.Array, npt.NDArray[np.int64]]]:
    """Images as they are stored (bytes of files) and labels, 4096 at a time. Raises `DataError`."""
    for path in files:
        try:
            file = pq.ParquetFile(path)
            image, label = _columns(source, file.schema_arrow, path)
            for batch in file.iter_batches(batch_size=4096, columns=[image, label]):
                column = batch.column(image)
                blobs = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
                if blobs.null_count or batch.column(label).null_count:
                    raise DataError(f"{path}: images and labels must not be null")
                yield blobs, _integers(batch.column(label))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path} as Parquet: {' '.join(str(error).split())[:200]}") from error


def _integers(array: pa.Array) -> npt.NDArray[np.int64]:
    """Without nulls. Unlike `to_numpy`, this does not import pandas, which takes a second."""
    wide = array.cast(pa.int64())
    return (
        np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide)]
        if len(wide)
        else np.empty(0, np.int64)
    )


def _columns(source: Source, schema: pa.Schema, path: Path) -> tuple[str, str]:
    def image_like(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or (
            pa.types.is_struct(kind) and any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        )

    found: list[str] = []
    for role, chosen, fits in (("image", source.image, image_like), ("label", source.label, pa.types.is_integer)):
        candidates = [f.name for f in schema if fits(f.type)]
        if chosen is None and len(candidates) == 1:
            chosen = candidates[0]
        if chosen is None or chosen not in candidates:
            raise DataError(
                f"{path}: {role} column {chosen or 'not named'}: columns that could be it are "
                f"{', '.join(candidates) or 'none'} "
                f"(of {', '.join(schema.names)}); set data.{role}_column"
            )
        found.append(chosen)
    return found[0], found[1]


def decoded(content: str, image_size: int | None) -> Path:
    """The folder of this machine's cache for a dataset with this fingerprint, decoded to this size; it is complete
    where it has `done.json`.
    """
    return cache_dir() / "data" / f"{content[:32]}-v{DECODING}-{image_size or 'stored'}"


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """For whoever fills a decoded folder: an empty folder to fill, which takes the name `folder` at the end; None where
    it is there already.

    Others on this machine wait meanwhile, so that a dataset is decoded or fetched once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, or its process dies
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
    if source is None and not (
        known_fingerprint and (decoded(known_fingerprint, spec.image_size) / "done.json").is_file()
    ):
        raise DataError(f"dataset {spec.dataset!r}: neither its files nor its decoded images are on this machine")
    print_ = known_fingerprint or fingerprint(source)  # type: ignore[arg-type]
    folder = decoded(print_, spec.image_size)
    if source is not None and not (folder / "done.json").is_file():
        with made_once(folder) as empty:
            if empty:
                _decode(source, spec.image_size, empty)
    about = json.loads((folder / "done.json").read_text())
    train = _first(_stored_split(folder, "train"), spec.train_examples, spec, "train")
    tested = bool(source.test) if source else (folder / "test_images.npy").is_file()
    test = _first(_stored_split(folder, "test"), spec.test_examples, spec, "test") if tested else None
    validation = None
    if spec.validation > 0:
        held_out = max(1, round(len(train.labels) * spec.validation))
        if held_out >= len(train.labels):
            raise DataError(
                f"dataset {spec.dataset!r}: validation {spec.validation:g} of {len(train.labels)} training images "
                "leaves none to train on"
            )
        validation = Split(train.images[-held_out:], train.labels[-held_out:])
        train = Split(train.images[:-held_out], train.labels[:-held_out])
    mean, std = (spec.mean, spec.std) if spec.mean and spec.std else moments(train.images)
    channels = train.images.shape[3]
    if len(spec.mean or mean) != channels or len(spec.std or std) != channels:
        raise DataError(f"dataset {spec.dataset!r} has {channels} channels; mean and std need as many values")
    return Dataset(
        spec.dataset, print_, tuple(about["classes"]), train, validation, test, spec.mean or mean, spec.std or std
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
    names = _class_names(source)
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


def _class_names(source: Source) -> list[str]:
    """Names from the schema's `huggingface` metadata; none where it has none."""
    metadata: dict[bytes, bytes] = pq.read_schema(source.train[0]).metadata or {}
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        label = source.label or next(k for k, v in features.items() if v.get("_type") == "ClassLabel")
        return [str(name) for name in features[label]["names"]]
    except (KeyError, ValueError, StopIteration, AttributeError, TypeError):
        return []
