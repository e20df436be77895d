"""Where results lie: a folder of this machine, or any filesystem that pyarrow opens by its address
(`s3://bucket/prefix`, `gs://...`, `hdfs://...`).

Files are named by relative paths with forward slashes. A name cannot leave the folder, and a write leaves the old
content or the new, never a part.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normbench.errors import BenchError

#: `s3://bucket/prefix` and the like; a drive letter is no scheme.
REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
#: Filesystems that have no rename, and where an object appears whole when its upload ends.
OBJECT_STORES = {"s3", "gcs", "abfs"}
#: Seconds between two looks at a folder, and seconds after which a process that tried to create a file counts as dead.
POLL = 0.1
STALLED = 60.0

_TRY = re.compile(r"\.(.+)\.([0-9a-f]{32})\.tmp")


class FilesError(BenchError):
    """A results folder cannot be opened, or a name would leave it."""


@dataclass(frozen=True)
class Entry:
    """A file or folder, by its own name. `modified`: Unix time by the clock of the machine that keeps the file."""

    name: str
    is_folder: bool
    size: int
    modified: float


class Files(ABC):
    """A folder of files. Operations raise `OSError` as the system does, `FilesError` for a name that would leave the
    folder.
    """

    @abstractmethod
    def where(self, name: str) -> str:
        """The file as people write it, for messages."""

    @abstractmethod
    def list(self, folder: str = "") -> list[Entry]:
        """What a folder holds, sorted by name; nothing where there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> bytes: ...

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step; when this returns, it is kept."""

    @abstractmethod
    def create(self, folder: str, names: Iterable[str], content: bytes) -> set[str]:
        """Write those of these files that the folder lacks, and return their names. If several processes create a file
        at once, one of them gets it. A reader may see such a file empty for a moment.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Rename a file; the target must not exist."""


def open_files(root: Path | str) -> Files:
    """The folder at a path or an address. Raises `FilesError` where pyarrow cannot open it."""
    if isinstance(root, str) and REMOTE.match(root):
        return RemoteFiles(root)
    return LocalFiles(Path(root))


def inside(name: str) -> str:
    """`name`, if it stays below the folder that it is relative to. Raises `FilesError`."""
    if not name or "\\" in name or "\0" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise FilesError(f"{name!r} is no name of a file in a results folder")
    return name


class LocalFiles(Files):
    """Of this machine, or mounted: written to a temporary name, flushed to disk and renamed."""

    def __init__(self, root: Path) -> None:
        self.root, self._said = root.absolute(), root

    def where(self, name: str) -> str:
        return str(self._said / name)

    def list(self, folder: str = "") -> list[Entry]:
        path = self.root / inside(folder) if folder else self.root
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self.root.resolve()):
                    continue  # a link is followed within the folder only
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat()
                    found.append(Entry(entry.name, entry.is_dir(), about.st_size, about.st_mtime))
        return sorted(found, key=lambda e: e.name)

    def read(self, name: str) -> bytes:
        return (self.root / inside(name)).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.root / inside(name), content)

    def create(self, folder: str, names: Iterable[str], content: bytes) -> set[str]:
        made = set()
        for name in names:
            path = self.root / inside(f"{folder}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), path.open("xb", buffering=0) as file:
                try:
                    file.write(content)
                except BaseException:
                    path.unlink()
                    raise
                made.add(name)
        return made

    def remove(self, name: str) -> None:
        (self.root / inside(name)).unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        target = self.root / inside(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.root / inside(name)).rename(target)


class RemoteFiles(Files):
    """Through `pyarrow.fs`. An object store keeps a whole upload or nothing; anywhere else a temporary file is
    renamed.
    """

    def __init__(self, address: str) -> None:
        from pyarrow import ArrowException, fs

        self.address, self._query = (address.partition("?")[0].rstrip("/"), address.partition("?")[2])
        try:
            self._system, self._base = fs.FileSystem.from_uri(
                f"{self.address}?{self._query}" if self._query else self.address
            )
        except (ArrowException, OSError, ValueError, ImportError) as error:
            raise FilesError(
                f"results folder {self.address}: pyarrow cannot open it: {' '.join(str(error).split())[:200]}"
            ) from error
        self._selector, self._folder = fs.FileSelector, fs.FileType.Directory
        self._missing = fs.FileType.NotFound

    def where(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address

    def list(self, folder: str = "") -> list[Entry]:
        path = self._path(folder) if folder else self._base
        return sorted(
            (self._entry(info) for info in self._system.get_file_info(self._selector(path, allow_not_found=True))),
            key=lambda e: e.name,
        )

    def _entry(self, info: Any) -> Entry:
        return Entry(
            info.base_name, info.type == self._folder, info.size or 0, info.mtime.timestamp() if info.mtime else 0.0
        )

    def read(self, name: str) -> bytes:
        with self._system.open_input_file(self._path(name)) as file:
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        if self._system.type_name in OBJECT_STORES:
            return self._put(path, content)
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/.{last}.{uuid.uuid4().hex}.tmp"
        self._system.create_dir(folder, recursive=True)
        try:
            self._put(temporary, content)
            self._system.move(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.delete_file(temporary)
            raise
        return None

    def create(self, folder: str, names: Iterable[str], content: bytes) -> set[str]:
        # pyarrow has no conditional put, so each process puts a try of its own beside the file, then lists the folder.
        # Of two processes at least one sees the other's try, or the file that came of it. The process whose try sorts
        # later withdraws it; the other one waits for that. Times of tries are by the clock of whoever keeps the files.
        me, began = uuid.uuid4().hex, time.monotonic()
        tries = {name: f"{folder}/.{name}.{me}.tmp" for name in names}
        try:
            each(lambda a_try: self.write(a_try, content), tries.values())
            while True:
                shown = [(match, e.modified) for e in self.list(folder) if (match := _TRY.fullmatch(e.name))]
                now = max((m for match, m in shown if match[2] == me), default=0.0) + time.monotonic() - began
                rivals = [r for r, m in shown if r[2] != me and r[1] in tries and now - m < STALLED]
                if not rivals:
                    break
                each(self.remove, [tries.pop(name) for name in {r[1] for r in rivals if r[2] < me}])
                time.sleep(POLL)
            made = tries.keys() - {e.name for e in self.list(folder)}  # a file is there before its try goes
            each(lambda name: self.write(f"{folder}/{name}", content), made)
            return made
        finally:
            each(self.remove, tries.values())

    def _put(self, path: str, content: bytes) -> None:
        with self._system.open_output_stream(path) as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        path = self._path(name)
        if self._system.get_file_info(path).type != self._missing:
            self._system.delete_file(path)

    def move(self, name: str, to: str) -> None:
        target = self._path(to)
        if self._system.type_name not in OBJECT_STORES:
            self._system.create_dir(target.rpartition("/")[0], recursive=True)
        self._system.move(self._path(name), target)

    def _path(self, name: str) -> str:
        return f"{self._base}/{inside(name)}"


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Call the function for each item, sixteen at a time: with a remote folder, a call is mostly waiting."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(function, items))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that after a crash at any moment either the old or the new content is there,
    whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
