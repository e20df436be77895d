"""How long a trial has worked, which its time limit counts.

A trial on a CPU must not reach its limit because the machine is busy. So while a trial runs, or waits for a processor,
its processor time counts, divided by its threads. While all of it sleeps (a lock, a disk, a network, `sleep`), the wall
clock counts. On an idle machine this is the wall clock, or less where threads have nothing to do. A trial that gets
hardly any processor time is ended too, after many times its limit by the wall clock.

On a GPU, and on systems other than Linux, which do not tell processor time, the wall clock counts.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from normbench.runner._linux import children

#: A trial is ended after so many times its limit by the wall clock, but not before an hour.
PATIENCE, LEAST_PATIENCE = 24, 3600.0
_ADVICE = "a longer `limits: time` and `bench run --retry` take it up again"


class WorkClock:
    """Counts the seconds that a trial has worked, by looking at its processes now and then."""

    def __init__(self, guard: int, limit: float, *, spent: float, worked: float, threads: int, by_wall: bool) -> None:
        """guard: the process below which all processes of the trial are. spent, worked: wall and working seconds of its
        earlier processes.
        """
        self.limit, self.wall, self.worked = limit, spent, worked
        self._guard, self._threads, self._by_wall = guard, threads, by_wall
        self._last, self._used = time.monotonic(), processor_time(guard)[0]

    @property
    def over(self) -> str:
        """Why the trial is to be ended; empty where it may go on."""
        if self.worked >= self.limit:
            return f"it ran longer than its limit of {self.limit:g} s; {_ADVICE}"
        if self.wall >= max(PATIENCE * self.limit, LEAST_PATIENCE):
            return (
                f"it worked {self.worked:.0f} s of its limit of {self.limit:g} s in {self.wall:.0f} s: the machine is "
                f"too busy for it; {_ADVICE}"
            )
        return ""

    def look(self) -> None:
        now, (used, runs) = time.monotonic(), processor_time(self._guard)
        self.advance(now - self._last, used - self._used, runs=runs)
        self._last, self._used = now, used

    def advance(self, seconds: float, used: float, *, runs: bool) -> None:
        """Count `seconds` in which the trial used `used` seconds of processor time. runs: whether it runs, or waits for
        a processor.
        """
        self.wall += seconds
        counts_used = runs and not self._by_wall
        self.worked += min(seconds, max(0.0, used) / self._threads) if counts_used else seconds


def processor_time(guard: int) -> tuple[float, bool]:
    """Processor seconds that everything below `guard` has used so far, and whether any of it runs or waits for a
    processor.
    """
    ticks, runs = 0, False
    with contextlib.suppress(OSError):
        ticks = sum(_fields(Path(f"/proc/{guard}/stat"))[1][2:])  # time of children that have ended
    left = children(guard)
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ticks += sum(_fields(Path(f"/proc/{pid}/stat"))[1])
            runs = runs or any(_fields(task / "stat")[0] == "R" for task in Path(f"/proc/{pid}/task").iterdir())
            left |= children(pid)
    return ticks / os.sysconf("SC_CLK_TCK"), runs


def _fields(stat: Path) -> tuple[str, list[int]]:
    """State, and processor time in user and system mode: its own, and that of ended children."""
    fields = stat.read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), [int(f) for f in fields[11:15]]
