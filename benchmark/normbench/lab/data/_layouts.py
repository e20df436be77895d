"""What a path holds: every layout that is read, the first that fits. A layout gives the shards of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from normbench.lab.data import _cifar, _npz
from normbench.lab.data._cifar import Cifar
from normbench.lab.data._class_folders import SUFFIXES, TESTS, ClassFolders
from normbench.lab.data._idx import Idx
from normbench.lab.data._npz import Npz
from normbench.lab.data._parquet import ParquetFile
from normbench.lab.data._parts import parts
from normbench.lab.data._source import DataError, Hub, Shard, Source
from normbench.spec.trial import DataSpec

#: Folders within a folder that are looked at for a hint.
_LOOKED_AT = 100


class Layout(ABC):
    title: str
    expected: str
    """What would have been read, for messages."""
    columns: tuple[str, ...] = ()
    """What `label_column` may name; of Parquet, anything."""

    @abstractmethod
    def fits(self, path: Path, splits: Sequence[str]) -> bool: ...

    @abstractmethod
    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        """Those of one split; none where it is not there. Raises `DataError` where they are not whole."""

    def missing(self, path: Path, split: str, dataset: str) -> str:
        """What is said where a split is not there. dataset: its name as it was given."""
        return f"{path} has no part {split!r}: expected {self.expected}"


class _Parquet(Layout):
    title = "Parquet"
    expected = "train.parquet and test.parquet, or train-*-of-*.parquet and test-*-of-*.parquet at any depth"

    def fits(self, path: Path, splits: Sequence[str]) -> bool:
        return any(_parquet(path, split) for split in splits)

    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        found = _parquet(path, split)
        files = parts(spec.dataset, split, found, path, lambda own: f"write dataset: {path / own}") if found else ()
        return columns(files, spec, hub)

    def missing(self, path: Path, split: str, dataset: str) -> str:
        return f"expected {path / f'{split}.parquet'} (or {split}-*-of-*.parquet below it), found no such file"


class _Archive(Layout):
    title = "npz"
    expected = "NAME.npz with arrays train_images, train_labels, test_images, test_labels"

    def fits(self, path: Path, splits: Sequence[str]) -> bool:
        return path.suffix == _npz.SUFFIX and path.is_file()

    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        return (Npz(path, split),) if split in _npz.splits(path) else ()

    def missing(self, path: Path, split: str, dataset: str) -> str:
        there = _npz.splits(path)
        return f"{path} has no array {split}_images; it has the parts {', '.join(there[:8]) or 'none'}"


class _Cifar(Layout):
    def __init__(self, folder: _cifar.Folder) -> None:
        self._folder = folder
        self.title = folder.title
        self.expected = ", ".join((*folder.files["train"], *folder.files["test"], folder.about))
        self.columns = tuple(folder.labels)

    def fits(self, path: Path, splits: Sequence[str]) -> bool:
        return all((path / name).is_file() for name in (self._folder.files["train"][0], self._folder.about))

    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        files = self._folder.files.get(split, ())
        if lacking := [name for name in files if not (path / name).is_file()]:
            raise DataError(f"dataset {spec.dataset!r}: {path} lacks {', '.join(lacking)}")
        chosen = spec.label_column or self.columns[0]
        about = path / self._folder.about
        return tuple(Cifar(path / name, chosen, about, self._folder.labels[chosen]) for name in files)


class _Mnist(Layout):
    title = "idx"
    expected = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, also below raw/ and as .gz"

    def fits(self, path: Path, splits: Sequence[str]) -> bool:
        return self._file(path, "train", "images", 3) is not None

    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        name = {"test": "t10k"}.get(split, split)
        images, labels = self._file(path, name, "images", 3), self._file(path, name, "labels", 1)
        if images is None:
            return ()
        if labels is None:
            raise DataError(f"dataset {spec.dataset!r}: {images.parent} lacks {name}-labels-idx1-ubyte")
        return (Idx(images, labels),)

    def _file(self, path: Path, split: str, what: str, axes: int) -> Path | None:
        names = [f"{split}-{what}{dash}idx{axes}-ubyte{packed}" for dash in "-." for packed in ("", ".gz")]
        tried = (folder / name for folder in (path, path / "raw") for name in names)
        return next((file for file in tried if file.is_file()), None)


class _Classes(Layout):
    title = "class folders"
    expected = f"train/CLASS/*.png (or .jpg, ...), and beside train/ one of {', '.join(f'{t}/' for t in TESTS)}"

    def fits(self, path: Path, splits: Sequence[str]) -> bool:
        return (path / splits[0]).is_dir()

    def shards(self, path: Path, split: str, spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
        names = TESTS if split == "test" else (split,)
        found = next((path / name for name in names if (path / name).is_dir()), None)
        return (ClassFolders(found, path, whole=split == spec.train_split),) if found else ()

    def missing(self, path: Path, split: str, dataset: str) -> str:
        there = " or ".join(f"{path / name}" for name in (TESTS if split == "test" else (split,)))
        return (
            f"there is no test part: expected {there} with the class folders of {path / 'train'}. Move some images of "
            f"each class there, or let `bench data import {dataset} OUT --test 0.2` set a fifth aside"
        )


LAYOUTS: tuple[Layout, ...] = (_Parquet(), _Archive(), *map(_Cifar, _cifar.FOLDERS), _Mnist(), _Classes())


def from_path(path: Path, spec: DataSpec, hub: Hub, splits: Sequence[str]) -> Source:
    """What lies at a path. hub: names the columns where `spec` does not. Raises `DataError`."""
    layout = next((layout for layout in LAYOUTS if layout.fits(path, splits)), None)
    if layout is None:
        raise DataError(f"dataset {spec.dataset!r}: {_unknown(path, splits, spec.dataset)}")
    if layout is not LAYOUTS[0]:
        _refuse_columns(spec, layout)
    found = [layout.shards(path, split, spec, hub) for split in splits]
    for split, shards in zip(splits, found, strict=True):
        if not shards:
            raise DataError(f"dataset {spec.dataset!r}: {layout.missing(path, split, spec.dataset)}")
    return Source(spec.dataset, found[0], found[1] if found[1:] else (), layout.title)


def from_class_folders(path: Path, spec: DataSpec) -> Source | None:
    """The images of class folders that lie in `path` itself, as training images; None where others lie there."""
    if not _classes(path) or any(layout.fits(path, (spec.train_split,)) for layout in LAYOUTS):
        return None
    return Source(spec.dataset, (ClassFolders(path, path),), (), LAYOUTS[-1].title)


def columns(files: Sequence[Path], spec: DataSpec, hub: Hub) -> tuple[Shard, ...]:
    """Parquet files with the columns that a suite or the hub's list names."""
    return tuple(ParquetFile(file, spec.image_column or hub.image, spec.label_column or hub.label) for file in files)


def folders(data_dir: Path) -> list[str]:
    """Names of the datasets in a data folder."""
    if not data_dir.is_dir():
        return []
    splits = ("train", "test")
    return sorted(d.name for d in data_dir.iterdir() if _read(d, splits))


def _read(path: Path, splits: Sequence[str]) -> bool:
    """Whether a layout fits; of Parquet, without a look at what lies deeper, which may be much."""
    try:
        return any(_parquet(path, split, below="") for split in splits) or any(
            layout.fits(path, splits) for layout in LAYOUTS[1:]
        )
    except OSError:
        return False


def _parquet(path: Path, split: str, below: str = "**/") -> list[Path]:
    return sorted(path.glob(f"{split}.parquet")) or sorted(path.glob(f"{below}{split}-*-of-*.parquet"))


def _refuse_columns(spec: DataSpec, layout: Layout) -> None:
    if spec.image_column:
        raise DataError(f"dataset {spec.dataset!r}: image_column is for Parquet; found {layout.title}")
    if spec.label_column and spec.label_column not in layout.columns:
        there = f"expected one of {', '.join(layout.columns)}" if layout.columns else "there are no columns"
        raise DataError(f"dataset {spec.dataset!r}: label_column {spec.label_column!r}: {there} ({layout.title})")


def _unknown(path: Path, splits: Sequence[str], dataset: str) -> str:
    """Why nothing can be read at a path, and what to do."""
    said = LAYOUTS[0].missing(path, splits[0], dataset)
    if not path.exists():
        return f"{said}; there is no {path}"
    if path.is_file():
        return f"{path} is a file; expected a folder, or an archive {_npz.SUFFIX} of arrays"
    inner = sorted(islice(path.iterdir(), _LOOKED_AT))
    if near := [d for d in inner if _read(d, splits)]:
        return f"{said}; {', '.join(str(d) for d in near[:3])} can be read: name that"
    if classes := _classes(path):
        few = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        return (
            f"{path} holds folders of images ({few}), and no {splits[0]}/ with a test part beside it. Move them into "
            f"{path / 'train'} and {path / 'test'}, or let `bench data import {dataset} OUT --test 0.2` set a fifth of "
            "each class aside"
        )
    others = "; ".join(f"{layout.title}: {layout.expected}" for layout in LAYOUTS[1:])
    return f"{said}. Other layouts that are read: {others}"


def _classes(path: Path) -> list[str]:
    """Names of folders with images in a folder."""
    if not path.is_dir():
        return []
    inner = (d for d in islice(path.iterdir(), _LOOKED_AT) if d.is_dir() and not d.name.startswith("."))
    return sorted(d.name for d in inner if any(f.suffix.lower() in SUFFIXES for f in islice(d.iterdir(), _LOOKED_AT)))
