"""Where a dataset lies."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from normbench.lab.data._hub import HUB, from_hub
from normbench.lab.data._layouts import folders, from_class_folders, from_path
from normbench.lab.data._source import PLAIN, DataError, Hub, Source
from normbench.paths import shipped
from normbench.spec.trial import DataSpec

SHIPPED = ("digits",)


def locate(spec: DataSpec, data_dir: Path | None, *, download: bool, test: bool = True) -> Source | None:
    """Find a dataset's files: in `data_dir`, in the package, at a path, then on the hub (only in its local cache,
    unless `download`).

    test: whether the test split is wanted. If not, nobody looks for it, and it is no part of the fingerprint. Returns
    None when only a download could bring it and `download` is off. Raises `DataError` when it cannot be found.
    """
    with _looked_at(spec.dataset):
        return _locate(spec, data_dir, download=download, test=test)


def _locate(spec: DataSpec, data_dir: Path | None, *, download: bool, test: bool) -> Source | None:
    name = spec.dataset
    for what, text in (("train_split", spec.train_split), ("test_split", spec.test_split)):
        if not PLAIN.fullmatch(text):
            raise DataError(f"dataset {name!r}: {what} {text!r} is no name of a split: letters, digits, _, - and .")
    splits = (spec.train_split, spec.test_split) if test else (spec.train_split,)
    if name.startswith("hub:"):
        repo, _, folder = name.removeprefix("hub:").partition(":")
        return from_hub(name, Hub(repo, folder or None), spec, splits, download=download)
    if path := _path(name, data_dir):
        return from_path(path, spec, HUB.get(name, Hub("")), splits)
    if name in SHIPPED:
        return from_path(shipped("suites", "data", name), spec, Hub(""), splits)
    if name in HUB:
        try:
            return from_hub(name, HUB[name], spec, splits, download=download)
        except DataError as error:
            raise DataError(f"{error}{_unpacked(HUB[name], data_dir)}") from error
    known = sorted({*HUB, *SHIPPED, *(folders(data_dir) if data_dir else ())})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
    where = f"no folder {name!r} in {data_dir}" if data_dir else "no data folder is set (--data or BENCH_DATA)"
    raise DataError(
        f"there is no dataset {name!r}: {where}; {hint} Others: hub:owner/name, or a path to a folder with "
        f"train.parquet and test.parquet{_beside(name)}"
    )


def training(spec: DataSpec, data_dir: Path | None) -> Source:
    """The training images of a dataset without a test part, or a folder of class folders as it is. Raises `DataError`,
    also for a dataset with a test part.
    """
    with _looked_at(spec.dataset):
        path = _path(spec.dataset, data_dir)
        if path is None:
            raise DataError(f"dataset {spec.dataset!r}: only of what lies at a path can a part be set aside")
        if flat := from_class_folders(path, spec):
            return flat
        source = from_path(path, spec, Hub(""), (spec.train_split,))
        try:
            from_path(path, spec, Hub(""), (spec.train_split, spec.test_split))
        except DataError:
            return source
    raise DataError(f"dataset {spec.dataset!r} has a test part already: {path}")


@contextmanager
def _looked_at(name: str) -> Iterator[None]:
    """A place that cannot be looked at is one message."""
    try:
        yield
    except OSError as error:
        raise DataError(f"dataset {name!r}: cannot look at {error.filename}: {error.strerror}") from error


def _path(name: str, data_dir: Path | None) -> Path | None:
    """Where a dataset lies on this machine, if its name says so."""
    if "/" in name or "\\" in name:  # a path that the suite's author chose
        return Path(name).expanduser()
    if data_dir is not None and PLAIN.fullmatch(name) and (data_dir / name).exists():
        return data_dir / name
    return None


def _unpacked(hub: Hub, data_dir: Path | None) -> str:
    """They are not taken unasked: their order is another one, and so would be the results under one name."""
    if data_dir is None or hub.unpacked is None or not (data_dir / hub.unpacked).is_dir():
        return ""
    return f". The same images lie in {data_dir / hub.unpacked}, in another order: `dataset: {hub.unpacked}` reads them"


def _beside(name: str) -> str:
    return f"; what lies in the working directory is ./{name}" if PLAIN.fullmatch(name) and Path(name).exists() else ""
