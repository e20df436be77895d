"""Where results lie: a folder of this machine, or any filesystem that pyarrow opens by its address
(`s3://bucket/prefix`, `gs://...`, `hdfs://...`).

Files are named by relative paths with forward slashes. A name cannot leave the folder, no link below the folder is
followed, and a write leaves the old content or the new, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
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

#: Bytes of the largest file that is read. Compacted results of 100,000 trials have a fiftieth of that.
LARGEST = 2**29
LINK = "it is a link, which is not followed"

_TRY = re.compile(r"\.(.+)\.([0-9a-f]{32})\.tmp")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class FilesError(BenchError):
    """A results folder cannot be opened, or a name would leave it."""


class LinkError(OSError):
    """A link stands where a file or folder of results was looked for."""

    def __init__(self) -> None:
        super().__init__(errno.ELOOP, LINK)


@dataclass(frozen=True)
class Entry:
    """A file or folder, by its own name; or a link, which is neither. `modified`: Unix time by the clock of the machine
    that keeps the file.
    """

    name: str
    is_folder: bool
    size: int
    modified: float
    is_link: bool = False


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
    def read(self, name: str, at_most: int = LARGEST) -> bytes:
        """What a file holds. at_most: bytes; a larger file is an error."""

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
    """Of this machine, or mounted: written to a temporary name, flushed to disk and renamed.

    Each step of a path is opened from the folder above it and never through a link, so nobody can put a link there
    between a check and its use. The results folder itself may be a link: that one is yours.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._said = root.absolute(), root

    def where(self, name: str) -> str:
        return str(self._said / name)

    @contextlib.contextmanager
    def _folder(self, folder: str, *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder. make: create what is missing of it."""
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        opened = os.open(self.root, _FOLDER)
        try:
            for part in inside(folder).split("/") if folder else ():
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=opened)
                inner = _open(part, _FOLDER, opened)
                os.close(opened)
                opened = inner
            yield opened
        finally:
            os.close(opened)

    @contextlib.contextmanager
    def _place(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The descriptor of a file's folder, and the file's own name."""
        folder, _, last = inside(name).rpartition("/")
        with self._folder(folder, make=make) as opened:
            yield opened, last

    def list(self, folder: str = "") -> list[Entry]:
        found = []
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._folder(folder) as opened,
            os.scandir(opened) as entries,
        ):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    is_folder, is_link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
                    found.append(Entry(entry.name, is_folder, about.st_size, about.st_mtime, is_link))
        return sorted(found, key=lambda e: e.name)

    def read(self, name: str, at_most: int = LARGEST) -> bytes:
        # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
        with self._place(name) as (folder, last):
            opened = _open(last, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, folder)
        with os.fdopen(opened, "rb") as file:
            about = os.fstat(opened)
            if stat.S_ISDIR(about.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(about.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            _refuse_large(about.st_size, at_most)
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        with self._place(name, make=True) as (folder, last):
            _write(folder, last, content)

    def create(self, folder: str, names: Iterable[str], content: bytes) -> set[str]:
        made = set()
        with self._folder(folder, make=True) as opened:
            for name in names:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with (
                    contextlib.suppress(FileExistsError),
                    os.fdopen(_open(inside(name), flags, opened), "wb", 0) as file,
                ):
                    try:
                        file.write(content)
                    except BaseException:
                        os.unlink(name, dir_fd=opened)
                        raise
                    made.add(name)
        return made

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._place(name) as (folder, last):
            os.unlink(last, dir_fd=folder)

    def move(self, name: str, to: str) -> None:
        with self._place(name) as (folder, last), self._place(to, make=True) as (target, new):
            os.rename(last, new, src_dir_fd=folder, dst_dir_fd=target)


def _open(name: str, flags: int, folder: int) -> int:
    """Open a name within a folder. Raises `LinkError` for a link, as open(2) does not everywhere."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    except OSError as error:
        # ENOTDIR: a link, or a file where a folder was wanted.
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise LinkError from None
        raise


def _refuse_large(size: int, at_most: int) -> None:
    if size > at_most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes; at most {at_most:,} are read")


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
        is_link = self._is_link(info.path)
        return Entry(
            info.base_name,
            info.type == self._folder and not is_link,
            info.size or 0,
            info.mtime.timestamp() if info.mtime else 0.0,
            is_link,
        )

    def _is_link(self, path: str) -> bool:
        return self._system.type_name == "local" and Path(path).is_symlink()  # `file://`: pyarrow would follow links

    def read(self, name: str, at_most: int = LARGEST) -> bytes:
        with self._system.open_input_file(self._path(name)) as file:
            _refuse_large(file.size(), at_most)
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
        path = f"{self._base}/{inside(name)}"
        if any(self._is_link(str(step)) for step in [Path(path), *Path(path).parents][: len(name.split("/"))]):
            raise LinkError
        return path


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Call the function for each item, sixteen at a time: with a remote folder, a call is mostly waiting."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(function, items))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that after a crash at any moment either the old or the new content is there,
    whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, _FOLDER)
    try:
        _write(folder, path.name, content)
    finally:
        os.close(folder)


def write_named(path: Path, content: bytes) -> None:
    """Write to what somebody has named, in one step where it is a file. A pipe or a device, as /dev/stdout and
    /dev/null may be, is written to and stays; so does a link.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        write_atomically(Path(os.path.realpath(path)), content)  # `Path.resolve` raises where links go round


def _write(folder: int, name: str, content: bytes) -> None:
    """Write a file of an open folder in one step. A link of that name is replaced, not followed."""
    temporary = f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with os.fdopen(_open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, folder), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)  # the rename itself must survive a power cut
