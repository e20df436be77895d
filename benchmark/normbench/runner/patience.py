"""Ray's start on this machine, however busy that is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from normbench.runner._linux import children

#: Seconds that a raylet which lives may take until it has registered; seconds until that is said; between two looks.
LIMIT, SAID_AFTER, _LOOK = 600.0, 30.0, 0.5


@contextmanager
def patient(note: Callable[[str], None]) -> Iterator[None]:
    """Inside, a start of Ray waits for its raylet as long as that lives. Ray itself gives it 30 s, which no setting
    changes and a busy machine needs longer for. note: is told that it takes long.
    """
    from ray._private import services

    ask = services.get_node

    def wait(*asked: Any) -> Any:
        began, said = time.monotonic(), False
        while True:
            try:
                return ask(*asked)
            except RuntimeError:  # it has not registered
                waited = time.monotonic() - began
                if waited > LIMIT or not raylet_lives():
                    raise
                if waited > SAID_AFTER and not said:
                    note("Ray has not started in 30 s: this machine is busy. It may take minutes; Ctrl-C is safe")
                    said = True
                time.sleep(_LOOK)

    services.get_node = wait
    try:
        yield
    finally:
        services.get_node = ask


def raylet_lives() -> bool:
    """Whether a raylet that this process has started is there, and has not ended."""
    for child in children(os.getpid()):
        with suppress(OSError):
            name, _, rest = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
            if name == "raylet" and rest.split()[0] != "Z":
                return True
    return False
