"""The cache of decoded datasets on this machine: folders that are complete or not there, with a checksum an array.

A folder is written under another name, brought to disk, and renamed at the end. `done.json` holds the checksums.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normbench.lab.data._source import DataError
from normbench.paths import cache_dir

#: Raised by hand when decoding or the layout of a folder changes, so that folders of an older version are not used.
DECODING = 2
DONE = "done.json"

Arrays = Mapping[str, npt.NDArray[Any]]

_log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A folder of the cache is cut, damaged or not there; the message says what is wrong with it."""


def decoded(content: str, image_size: int | None) -> Path:
    """The folder of this machine's cache for a dataset with this fingerprint, decoded to this size. It is complete if
    it has `done.json`.
    """
    return cache_dir() / "data" / f"{content[:32]}-v{DECODING}-{image_size or 'stored'}"


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Yield an empty folder to fill, which takes the name `folder` at the end; None where that folder is complete and
    undamaged already. What is damaged is thrown away, and a line of the log says so.

    Other processes of this machine wait meanwhile, so a dataset is decoded or fetched once. Raises `DataError` where
    the cache cannot be written to.
    """
    with _written(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w", encoding="utf-8")
    with lock:
        with _written(folder):
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, or the process dies
        if folder.exists():
            try:
                arrays(folder)
            except DamagedError as damage:
                _log.warning("bench: decoded images in the cache are damaged, and are made again: %s", damage)
                with _written(folder):
                    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
            else:
                yield None
                return
        prefix = f".decoding-{folder.name}-"
        with _written(folder):
            for left in folder.parent.glob(f"{prefix}*"):  # by a process that was killed: the lock is ours
                shutil.rmtree(left, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            yield made
            with _written(folder):
                made.rename(folder)
                _sync(folder.parent)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def write(folder: Path, found: Arrays, classes: Sequence[str]) -> None:
    """Fill the folder that `made_once` yielded: each array in a file of its name, then `done.json`. All of it is on the
    disk when this returns. Raises `DataError`.
    """
    with _written(folder):
        for name, array in found.items():
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        about = {"classes": list(classes), "sha256": {name: _checksum(array) for name, array in found.items()}}
        with (folder / DONE).open("w", encoding="utf-8") as file:
            json.dump(about, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(folder)


def arrays(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    """The arrays of a folder by name, mapped into memory, and the names of the classes. Raises `DamagedError` where the
    folder is not complete, or not as it was written.
    """
    try:
        about = json.loads((folder / DONE).read_text(encoding="utf-8"))
        found = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in about["sha256"]}
        for name, array in found.items():
            if _checksum(array) != about["sha256"][name]:
                raise DamagedError(f"{folder / name}.npy has another checksum than when it was written")
        return found, tuple(map(str, about["classes"]))
    except DamagedError:
        raise
    except Exception as error:  # damage may look like anything: text that is no JSON, a header that numpy cannot parse
        raise DamagedError(f"{folder}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _checksum(array: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """A cache that cannot be written to is one message."""
    try:
        yield
    except OSError as error:
        # Where the disk is full, numpy says how many values it could write, without an error number.
        why = error.strerror or f"the disk may be full ({error})"
        raise DataError(
            f"cannot write decoded images to {folder.parent}: {why}; BENCH_CACHE names another folder"
        ) from error
