"""What the fork server of a worker loads, so that a trial does not: imported there once, before any trial is forked from it.

Nothing here may start a thread: a fork would not have it. So there is a forward pass on one thread, which sets up oneDNN, and no backward pass.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

MODULE = __name__


def context() -> ForkServerContext:
    """Processes that start from a server with torch, timm and the plug-ins loaded."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([f"{MODULE}_up"])
    return found


def start() -> None:
    """Start this process's server in the background, before it is needed. Ray calls it when a worker process begins."""
    context()
    forkserver.ensure_running()
