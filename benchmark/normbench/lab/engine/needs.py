"""What the engines other than `eager` need of a machine. Nothing here loads torch, but for `tried`."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

_COMPILERS = ("g++", "clang++", "c++")


def lacking(*, gpu: bool) -> list[str]:
    """What compiled code lacks here, each in a few words. Where something is, a trial falls back to `eager`, and its
    row says so.
    """
    compilers = [c for c in (os.environ.get("CXX", ""), *_COMPILERS) if c]
    header = Path(sysconfig.get_path("include"), "Python.h")
    found = {
        f"a C++ compiler ({', '.join(compilers)})": any(map(shutil.which, compilers)),
        f"Python's header {header} (package python3-dev)": header.is_file(),
        "the package triton": not gpu or find_spec("triton") is not None,
    }
    return [what for what, there in found.items() if not there]


def tried(device: str) -> str:
    """Compile a small function for `device` and run it. Returns what went wrong; empty where it worked."""
    import torch

    from normbench.lab.engine.steps import line

    try:
        from normbench.lab.engine.compiling import compiler

        with compiler("doctor", device) as compiled:
            found = float(compiled(lambda x: (x + 1).sum())(torch.ones(8, device=device)))
    except Exception as error:  # the compiler may raise anything
        return f"{type(error).__name__}: {line(error)}"[:300]
    return "" if found == 16 else f"it computed {found} instead of 16"
