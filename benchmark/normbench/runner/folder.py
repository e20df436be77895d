"""The folder of a run. It holds the temporary files of all its processes, and is removed when the run ends.

A run that is killed leaves its folder behind, and some of Ray's processes. The server of its trials, which notices that
(see `normbench.runner.server`), ends these processes and removes the folder; where that was killed too, the next run on
the machine does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from normbench.errors import on_disk
from normbench.paths import temporary_dir
from normbench.runner._linux import working_in

#: The variable by which the processes of a run know its folder.
RUN = "NORMBENCH_RUN"
#: Ray's part of a run's folder. Each process of Ray opens the folder that Ray was given, and that of its session, to
#: all users (mode 0777). So it must not be given the run's own, which keeps other users out of everything below.
RAY = "ray"
_PREFIX = "normbench-run-"
#: The lock that a run holds as long as it lives. A process id would not do: another process may have it by now.
_LOCK = "lock"
#: The folder of temporary files on every Unix.
_SHORT = "/tmp"  # noqa: S108 (folders there are made by `mkdtemp`)
#: The longest path of a socket in bytes (104 on macOS), and the bytes that Ray and this module add to the temporary
#: folder's path.
_SOCKET, _ADDED = (
    103,
    len("/normbench-run-1234567-12345678/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/raylet.1"),
)
#: Seconds that killed processes have to vanish.
_GO = 10.0


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make this run's folder, which only its user may enter. At the end, end the processes that still work in it, and
    remove it. Clears up after dead runs first.
    """
    chosen = str(temporary_dir())
    places = {chosen, _SHORT}
    for dead in (folder for place in places for folder in Path(place).glob(f"{_PREFIX}*") if _is_dead(folder)):
        clear(dead)
    place = chosen if len(chosen) + _ADDED <= _SOCKET else _SHORT
    with on_disk(f"cannot make the folder of the run in {place} (TMPDIR)"):
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
        lock = (folder / _LOCK).open("w", encoding="utf-8")
    before = os.environ.get(RUN)
    os.environ[RUN] = str(folder)
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            os.environ.pop(RUN)
            if before is not None:
                os.environ[RUN] = before
            clear(folder)


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder for one purpose, in the run's folder or, where this machine has none, among the temporary files."""
    run = os.environ.get(RUN)
    place = run if run and Path(run).is_dir() else None
    with tempfile.TemporaryDirectory(prefix=prefix if place else f"normbench-{prefix}", dir=place) as folder:
        yield Path(folder)


def end_those_in(folder: Path) -> None:
    """End the processes whose working directory lies in a folder. All processes of Ray are started in one."""
    deadline = time.monotonic() + _GO
    while (left := working_in(folder)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def clear(folder: Path) -> None:
    """End the processes that still work in the folder of a run, and remove it."""
    end_those_in(folder)
    shutil.rmtree(folder, ignore_errors=True)


def clear_dead(folder: Path) -> bool:
    """Wait until the run that a folder belongs to has let go of it, and clear it. False where it clears up itself."""
    deadline = time.monotonic() + _GO
    while not (dead := _is_dead(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if dead:
        clear(folder)
    return dead


def _is_dead(folder: Path) -> bool:
    """Whether this is the folder of a run of this user that ended without removing it."""
    try:
        if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
            return False
        with (folder / _LOCK).open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # the lock is held, or not there yet
        return False
    return True
