"""A norm of another package that breaks in the way it is told to: what trials must survive."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmark.norms.base import ActivationNorm, Claims, Family, Site
from benchmark.norms.bn import BatchNorm

if TYPE_CHECKING:
    from torch import nn


class Saboteur(ActivationNorm):
    """Breaks when its first layer is built."""

    name: ClassVar[str] = "saboteur"
    summary: ClassVar[str] = "breaks"
    source: ClassVar[str] = "the tests"
    equation: ClassVar[str] = ""
    family: ClassVar[Family] = "no statistics"
    claims: ClassVar[Claims] = BatchNorm.claims

    how: Literal["raise", "segfault", "kill", "exit", "hang", "hang-in-c", "nan", "memory"] = "raise"

    def layer(self, site: Site) -> nn.Module:
        from torch import nn

        print("about to break")
        match self.how:
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
            case "memory":
                raise MemoryError("out of host memory")

        class Poisoned(nn.BatchNorm2d):
            def forward(self, x):  # type: ignore[no-untyped-def]
                return super().forward(x) * float("inf")

        return Poisoned(site.channels)
