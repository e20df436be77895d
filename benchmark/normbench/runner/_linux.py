"""What Linux alone can do for the processes of trials; elsewhere these calls do nothing, or find nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

#: How much sooner than others a process is to be ended where memory runs out; children begin with their parent's.
OOM_SCORE = Path("/proc/self/oom_score_adj")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even inside a call that lets no Python code run."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Give this process a name, of at most 15 characters, for those who look at `ps` and `top`."""
    _prctl(_PR_SET_NAME, name.encode())


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends, whatever session it is in."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> set[int]:
    """The processes whose parent is `pid`, ended ones that nobody has asked for among them."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found.update(int(child) for child in (task / "children").read_text().split())
    return found


def working_in(folder: Path) -> set[int]:
    """The other processes of this user whose working directory lies in a folder, be it removed or not."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            if (process / "cwd").readlink().is_relative_to(folder):
                found.add(int(process.name))
    return found - {os.getpid()}


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
