"""Datasets in folders of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from normbench.lab.data._parts import parts
from normbench.lab.data._source import DataError, Hub, Source
from normbench.spec.trial import DataSpec


def folders(data_dir: Path) -> list[str]:
    """Names of the datasets in a data folder: its folders that hold train.parquet and test.parquet."""
    if not data_dir.is_dir():
        return []
    return sorted(
        d.name for d in data_dir.iterdir() if (d / "train.parquet").is_file() and (d / "test.parquet").is_file()
    )


def from_folder(folder: Path, spec: DataSpec, hub: Hub, splits: Sequence[str]) -> Source:
    """The files of `splits` in a folder: `train.parquet`, or the parts `train-*-of-*.parquet` of one folder at any
    depth. hub: names the columns where `spec` does not. Raises `DataError`.
    """
    files: list[tuple[Path, ...]] = []
    for split in splits:
        found = sorted(folder.glob(f"{split}.parquet")) or sorted(folder.glob(f"**/{split}-*-of-*.parquet"))
        if not found:
            raise DataError(
                f"dataset {spec.dataset!r}: expected {folder / f'{split}.parquet'} (or {split}-*-of-*.parquet below "
                "it), found no such file"
            )
        files.append(parts(spec.dataset, split, found, folder, lambda own: f"write dataset: {folder / own}"))
    return Source(
        spec.dataset,
        files[0],
        files[1] if files[1:] else (),
        spec.image_column or hub.image,
        spec.label_column or hub.label,
    )
