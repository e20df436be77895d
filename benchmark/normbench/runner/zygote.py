"""The zygote of a run: one process that loads torch, timm and the plug-ins while the plan is made and Ray starts. From
it each worker's fork server is forked.

It belongs to the driver and ends with it. What a worker asks it for, and what happens where it cannot, is in
`normbench.runner.warm`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

from normbench.runner import warm

_COMMAND = "import sys; sys.path[:] = {path!r}; from normbench.runner.zygote import main; main({listener})"
#: Workers that may knock while it is still loading.
_BACKLOG = 1024


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """A zygote, as the variables by which workers find it; none where workers could not use it. It does not wait for
    the zygote to be ready.
    """
    if not warm.adopts():
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="normbench-zygote-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder) / "socket")  # a folder that its owner alone may enter
        try:
            listener.bind(address)
        except OSError:  # the path is too long
            yield {}
            return
        listener.listen(_BACKLOG)
        command = _COMMAND.format(path=sys.path, listener=listener.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()  # the zygote has it; should it end, workers are refused and start servers of their own
        try:
            yield {warm.ZYGOTE: address}
        finally:
            process.kill()
            process.communicate()


def main(listener_fd: int) -> None:
    """Load everything, then fork a server for each connection, until the driver's end of standard input is closed."""
    warm.end_with_parent()
    warm.call_it("bench-zygote")
    importlib.import_module(warm.LOADED)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no server's exit code is asked for
    with socket.socket(fileno=listener_fd) as listener:
        while True:
            if sys.stdin.fileno() in select.select([listener, sys.stdin.fileno()], [], [])[0]:
                return
            worker, _ = listener.accept()
            with (
                worker,
                contextlib.suppress(OSError),
            ):  # no more processes, or no memory for one: this worker starts a server of its own, in time
                if os.fork() == 0:
                    listener.close()
                    try:
                        _serve(worker)
                    finally:
                        os._exit(0)


def _serve(worker: socket.socket) -> None:
    """Be the fork server of the worker at the other end, until it is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    warm.end_with_parent()
    warm.call_it("bench-server")
    standing, (listener, alive), *_ = socket.recv_fds(worker, 64, 2)
    niceness, oom_score = standing.split()
    os.setpriority(os.PRIO_PROCESS, 0, int(niceness))
    with contextlib.suppress(OSError):  # below the driver's, which only root may ask for
        warm.OOM_SCORE.write_bytes(oom_score)
    forkserver.main(listener, alive, [])
