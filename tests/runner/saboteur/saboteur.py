"""A norm of another package that breaks in the way it is told to: what trials must survive."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from normbench.norms.base import ActivationNorm, Claims, Family, Site
from normbench.norms.bn import BatchNorm

if TYPE_CHECKING:
    from torch import nn


def _starts(tally: Path) -> int:
    with tally.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {time.monotonic_ns()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
    return len({line.split()[0] for line in tally.read_text(encoding="utf-8").splitlines()})


class OwnError(BaseException):
    """No `Exception`, as some libraries have them."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def _fork(forks: Path) -> None:
    """Leave two processes that never end: a child, and the orphan of another session; they hold every file open."""
    for orphan in (False, True):
        if pid := os.fork():
            if orphan:
                os.waitpid(pid, 0)
            continue
        if orphan:
            os.setsid()
            if os.fork():
                os._exit(0)
        with forks.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(1)
    while not forks.exists() or len(forks.read_text(encoding="utf-8").splitlines()) < 2:
        time.sleep(0.01)


class Saboteur(ActivationNorm):
    """Breaks when its first layer is built."""

    name: ClassVar[str] = "saboteur"
    summary: ClassVar[str] = "breaks"
    source: ClassVar[str] = "the tests"
    equation: ClassVar[str] = ""
    family: ClassVar[Family] = "no statistics"
    claims: ClassVar[Claims] = BatchNorm.claims

    how: Literal[
        "raise",
        "segfault",
        "abort",
        "kill",
        "kill-later",
        "exit",
        "hang",
        "hang-in-c",
        "nan",
        "memory",
        "allocation",
        "gpu-memory",
        "eat-memory",
        "surrogate",
        "mute",
        "interrupt",
        "system-exit",
        "own-exception",
        "long",
        "long-output",
        "spin",
        "work",
        "fork",
        "fork-and-exit",
        "fork-and-hang",
        "none",
    ] = "raise"
    tally: str = ""
    """A file in which every process that starts leaves a line; processes beyond the first `times` behave."""
    times: int = 1
    after: int = 6
    """Training batches before `kill-later` strikes, and before a trial waits for `until`."""
    seconds: float = 0.0
    """Pause a training batch, so that tests can strike meanwhile; of `work`, seconds of a processor."""
    until: str = ""
    """A file without which no trial gets any further than `after` batches."""
    forks: str = ""
    """A file in which every process that `fork` leaves writes its number."""

    def layer(self, site: Site) -> nn.Module:
        import torch
        from torch import nn

        how, after, seconds, until = self.how, self.after, self.seconds, self.until
        if Path("/proc/self/comm").exists() and Path("/proc/self/comm").read_text(encoding="utf-8") == "bench-plan\n":
            how = "none"  # what a run looks at beforehand is spared, and leaves no line
        elif self.tally and _starts(Path(self.tally)) > self.times:
            how = "none"

        class Dying(nn.BatchNorm2d):
            seen = 0

            def forward(self, x):  # type: ignore[no-untyped-def]
                self.seen += self.training
                if how == "kill-later" and self.seen > after:
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.training:
                    time.sleep(seconds)
                while until and self.seen > after and not Path(until).exists():
                    time.sleep(0.05)
                return super().forward(x)

        if how in {"kill-later", "none"}:
            return Dying(site.channels)
        print("about to break")
        match how:
            case "raise":
                raise RuntimeError("broken on purpose")
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                while True:
                    time.sleep(1)
            case "hang-in-c":
                ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock: no Python code can interrupt it
            case "abort":
                os.abort()
            case "memory":
                raise MemoryError("out of host memory")
            case "allocation":
                torch.empty(2**58)
            case "gpu-memory":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
            case "surrogate":
                raise RuntimeError("a name of \udc80 bytes")
            case "mute":
                raise MuteError
            case "interrupt":
                raise KeyboardInterrupt("by its own code")
            case "system-exit":
                raise SystemExit("by its own code")
            case "own-exception":
                raise OwnError("by its own code")
            case "long":
                raise RuntimeError("\u00e4\U0001f600" * 2_000_000)
            case "long-output":
                print("\u00e4\U0001f600" * 2_000_000)
                os.abort()
            case "spin":
                while True:
                    pass
            case "work":
                while time.process_time() < seconds:
                    pass
            case "fork" | "fork-and-exit" | "fork-and-hang":
                _fork(Path(self.forks))
                if how == "fork-and-exit":
                    os._exit(3)
                while how == "fork-and-hang":
                    time.sleep(1)
            case "eat-memory":
                held = []
                while True:
                    held.append(bytearray(os.urandom(1 << 20) * 64))
                    time.sleep(0.02)

        if how in {"work", "fork"}:
            return nn.BatchNorm2d(site.channels)

        class Poisoned(nn.BatchNorm2d):
            def forward(self, x):  # type: ignore[no-untyped-def]
                return super().forward(x) * float("inf")

        return Poisoned(site.channels)
