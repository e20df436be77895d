"""Which files are a split: all parts of one configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from normbench.lab.data._source import DataError

#: `train-00000-of-00004.parquet`, also with a digest behind, as older files of the hub have it.
_PART = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9a-f]+)?\.parquet")


def parts(
    dataset: str, split: str, files: Iterable[Path], root: Path, advice: Callable[[str], str]
) -> tuple[Path, ...]:
    """The files of a split, in order. Raises `DataError` where they lie in several folders, which are configurations of
    a dataset (`advice` says how one of them is asked for), or where parts are missing or there twice.
    """
    found = sorted(dict.fromkeys(files))
    folders = sorted({path.parent.relative_to(root).as_posix() for path in found})
    if len(folders) > 1:
        raise DataError(f"dataset {dataset!r} has several configurations: {', '.join(folders)}; {advice(folders[0])}")
    numbered = [(path, match) for path in found if (match := _PART.search(path.name))]
    if not numbered:
        return tuple(found)
    counts = sorted({int(match[2]) for _, match in numbered})
    if len(counts) > 1 or len(numbered) < len(found):
        named = ", ".join(path.name for path in found[:4]) + (", ..." if len(found) > 4 else "")
        raise DataError(
            f"dataset {dataset!r}: the {split} files {named} in {found[0].parent} are not the parts of one set"
        )
    there = [int(match[1]) for _, match in numbered]
    if sorted(there) != list(range(counts[0])):
        missing = sorted(set(range(counts[0])) - set(there))
        odd = f"; missing: {', '.join(map(str, missing[:6]))}{', ...' if len(missing) > 6 else ''}" if missing else ""
        raise DataError(
            f"dataset {dataset!r}: {len(there)} {split} file{'s' * (len(there) != 1)} of {counts[0]} "
            f"{'is' if len(there) == 1 else 'are'} there ({found[0].name} names -of-{counts[0]:05d}){odd}"
        )
    return tuple(found)
