"""Where a worker gets the process from that its trials are forked from: torch, timm and the plug-ins are loaded there
once, before any trial.

That process is a fork server of multiprocessing. On this machine it is itself forked from the run's zygote (see
`normbench.runner.zygote`), so that loading is paid once a run and not once a worker; where there is no zygote (on the
nodes of a cluster, in a plain process), it loads everything itself.

Nothing that is loaded there may start a thread: a fork would not have it. So there is a forward pass on one thread,
which sets up oneDNN, and no backward pass.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import socket
import sys
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

#: What is loaded: a module, imported for nothing but that.
LOADED = f"{__name__}_up"
#: The variable by which Ray's workers know the zygote's address.
ZYGOTE = "NORMBENCH_ZYGOTE"
#: How much sooner than others this process is to be ended where memory runs out; children begin with their parent's.
OOM_SCORE = Path("/proc/self/oom_score_adj")


def context() -> ForkServerContext:
    """Processes that start from a server with torch, timm and the plug-ins loaded: one that the zygote forks for this
    process, else one that loads them.
    """
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([LOADED])
    server: Any = forkserver._forkserver
    if server._forkserver_address is None and (address := os.environ.get(ZYGOTE)):
        adopt(address)
    return found


def adopts() -> bool:
    """Can this Python take a server that it did not start? Since 3.14 a server has a key that only it and its starter
    know. And only Linux ends the processes of one that is gone, and delivers open files to a process that is still
    busy.
    """
    return sys.platform == "linux" and not hasattr(forkserver._forkserver, "_forkserver_authkey")


def adopt(address: str) -> bool:
    """Have the zygote at `address` fork this process's server. False where there is none, or where this Python cannot.

    The zygote gets what multiprocessing gives to a server that it starts: a socket to listen at, and the end of a pipe
    that says when this process is gone. The connection stays open, and says when the server is gone; then this process
    starts one of its own.
    """
    if not adopts():
        return False
    server: Any = forkserver._forkserver
    zygote = socket.socket(socket.AF_UNIX)
    try:
        zygote.connect(address)
        with socket.socket(socket.AF_UNIX) as listener:
            place = str(Path(util.get_temp_dir()) / "server")  # this process's own folder, which goes with it
            listener.bind(place)
            listener.listen()
            alive, held = os.pipe()
            try:
                # What Ray gives its workers is to hold for trials too: a low priority, and a place at the front when
                # the kernel needs memory.
                standing = f"{os.getpriority(os.PRIO_PROCESS, 0)} {OOM_SCORE.read_text()}"
                socket.send_fds(zygote, [standing.encode()], [listener.fileno(), alive])
            except OSError:
                os.close(held)
                raise
            finally:
                os.close(alive)
    except OSError:
        zygote.close()
        return False
    server._forkserver_address, server._forkserver_alive_fd = place, held

    def ensure_running() -> None:
        if select.select([zygote], [], [], 0)[0]:
            zygote.close()
            os.close(held)
            server._forkserver_address = server._forkserver_alive_fd = None
            del server.ensure_running
            server.ensure_running()

    server.ensure_running = ensure_running
    return True


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even inside a call that lets no thread run (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def call_it(name: str) -> None:
    """Name this process, of at most 15 characters, for those who look at `top` (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
