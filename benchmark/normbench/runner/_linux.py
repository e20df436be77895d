"""Calls that only Linux has, for the processes of trials. On other systems they do nothing, or find nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

#: The score by which the kernel chooses what to end when memory runs out. Children begin with their parent's score.
OOM_SCORE = Path("/proc/self/oom_score_adj")
#: The priority of this process's session as a whole, where the kernel shares the processor out by sessions first.
AUTOGROUP = Path("/proc/self/autogroup")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even inside a call that lets no Python code run."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Give this process a name of at most 15 characters, which `ps` and `top` show."""
    _prctl(_PR_SET_NAME, name.encode())


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends, in any session."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> set[int]:
    """The processes whose parent is `pid`, including those that have ended but that nobody has waited for."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found.update(int(child) for child in (task / "children").read_text(encoding="utf-8").split())
    return found


def working_in(folder: Path) -> set[int]:
    """The other processes of this user whose working directory lies in a folder, even if that was removed."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            if (process / "cwd").readlink().is_relative_to(folder):
                found.add(int(process.name))
    return found - {os.getpid()}


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
