"""The folder of a run: what its processes write to disk for a while lies there, and goes when the run ends.

A run that is killed leaves its folder behind; the next run on the machine removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: The variable by which the processes of a run know its folder.
RUN = "NORMBENCH_RUN"
_PREFIX = "normbench-run-"


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make this run's folder, which its user alone may enter, and remove it at the end. Removes those of dead runs."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    before = os.environ.get(RUN)
    os.environ[RUN] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            os.environ.pop(RUN, None)
        else:
            os.environ[RUN] = before
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder for one purpose: in the run's folder, or, where this machine has none, among the temporary files."""
    run = os.environ.get(RUN)
    place = run if run and Path(run).is_dir() else None
    with tempfile.TemporaryDirectory(prefix=prefix if place else f"normbench-{prefix}", dir=place) as folder:
        yield Path(folder)


def _sweep() -> None:
    """Remove folders of this user's runs whose process is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
                continue
            if pid.isdigit() and not _runs(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
