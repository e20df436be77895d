"""Where a dataset lies."""

from __future__ import annotations

import difflib
from pathlib import Path

from normbench.lab.data._folder import folders, from_folder
from normbench.lab.data._hub import HUB, from_hub
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
    name = spec.dataset
    for what, text in (("train_split", spec.train_split), ("test_split", spec.test_split)):
        if not PLAIN.fullmatch(text):
            raise DataError(f"dataset {name!r}: {what} {text!r} is no name of a split: letters, digits, _, - and .")
    splits = (spec.train_split, spec.test_split) if test else (spec.train_split,)
    if name.startswith("hub:"):
        repo, _, folder = name.removeprefix("hub:").partition(":")
        return from_hub(name, Hub(repo, folder or None), spec, splits, download=download)
    if "/" in name or "\\" in name:  # a path that the suite's author chose
        return from_folder(Path(name).expanduser(), spec, Hub(""), splits)
    if data_dir is not None and PLAIN.fullmatch(name) and (data_dir / name).is_dir():
        return from_folder(data_dir / name, spec, HUB.get(name, Hub("")), splits)
    if name in SHIPPED:
        return from_folder(shipped("suites", "data", name), spec, Hub(""), splits)
    if name in HUB:
        return from_hub(name, HUB[name], spec, splits, download=download)
    known = sorted({*HUB, *SHIPPED, *(folders(data_dir) if data_dir else ())})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    where = f"no folder {name!r} in {data_dir}" if data_dir else "no data folder is set (--data or BENCH_DATA)"
    raise DataError(
        f"there is no dataset {name!r}: {where}; {hint}. Others: hub:owner/name, or a path to a folder with "
        "train.parquet and test.parquet"
    )
