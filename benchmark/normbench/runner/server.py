"""The pre-fork server: what it loads, how it forks, how a guard ends a trial. `normbench.runner.spawn` starts it.

    server (bench-server) - a guard for each trial (bench-guard) - the trial (bench-trial) - what the trial starts

The guard ends the trial and everything that the trial has started as soon as the trial's process ends, or the worker
hangs up, or the server is gone. Only then does it tell the worker how the trial's process ended. The server is gone
when its owner is, since it ends with the other end of its standard input.

Nothing that the server loads may start a thread: a fork would not have it. So the server makes a forward pass on one
thread, which sets up oneDNN, and no backward pass.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from normbench.runner import _linux
from normbench.runner.folder import RUN, clear_dead
from normbench.runner.spawn import END_IT, NUMBER, ready

#: Seconds that a trial has to write its stack to its log, once its guard was told to end it.
GRACE = 30.0
#: What is said of a run that was killed, or that Ray ended without a word.
GONE = "the run was ended from outside; what had finished is stored, and the same command goes on from here"
#: Seconds between two looks at processes that are being ended.
_LOOK = 0.05


def serve(listener_fd: int | None = None, said_fd: int | None = None) -> NoReturn:
    """Be a server: load everything, then fork a guard for each connection, until the owner is gone. A run's own server
    (`listener_fd`) then clears the run's folder, in case the run was killed, and says so (`said_fd`).
    """
    _linux.name_process("bench-server")
    _linux.adopt_orphans()
    control = socket.socket(fileno=os.dup(0))
    _be_without_input()
    _load()
    sources = [control, *([] if listener_fd is None else [socket.socket(fileno=listener_fd)])]
    alive, held = os.pipe()  # a guard knows by it that the server is gone
    guards: set[int] = set()
    wake = _wake_for_children()
    while True:
        readable = ready([wake, *(source.fileno() for source in sources)])
        if wake in readable:
            _drain(wake)
            guards -= _reaped().keys()
            _kill(_linux.children(os.getpid()) - guards)  # processes that a killed guard has left
        for source in sources:
            if source.fileno() not in readable:
                continue
            if source is control:
                received: list[int] = []
                with contextlib.suppress(OSError):
                    _, received, _, _ = socket.recv_fds(control, 1, 1)
                if not received:
                    os.close(held)  # its guards end what they watch
                    if listener_fd is not None and RUN in os.environ and clear_dead(Path(os.environ[RUN])):
                        _say(said_fd)
                    os._exit(0)
                connection = socket.socket(fileno=received[0])
            else:
                connection, _ = source.accept()
            with connection, contextlib.suppress(OSError):  # no more processes, or no memory for one
                if pid := os.fork():
                    guards.add(pid)
                    continue
                try:
                    os.close(held)
                    for other in sources:
                        other.close()
                    if said_fd is not None:
                        os.close(said_fd)
                    _guard(connection, alive)
                finally:
                    os._exit(0)


def _say(said_fd: int | None) -> None:
    """What the run can no longer say."""
    if said_fd is not None:
        with contextlib.suppress(OSError):
            os.write(said_fd, f"bench: {GONE}\n".encode())


def _load() -> None:
    """Import everything that a trial imports, and compute what each process computes once."""
    import foolbox  # noqa: F401
    import torch

    import normbench.attacks as attacks
    import normbench.measures as measures
    import normbench.norms as norms
    import normbench.statistics as statistics
    from normbench.lab import trial_run  # noqa: F401
    from normbench.norms import layers
    from normbench.spec import architectures

    for package in (norms, layers, attacks, measures, statistics):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(Exception):  # a broken plug-in is reported by the trial that wants it
                importlib.import_module(module.name)
    architectures.architectures()
    with contextlib.suppress(RuntimeError), torch.no_grad():
        torch.set_num_threads(1)
        torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    # All objects so far are in every child too. A child's first garbage collection would visit them, and copy the
    # memory that they lie in: 0.3 s a trial.
    gc.collect()
    gc.freeze()


def _guard(connection: socket.socket, server_alive: int) -> None:
    """Start one trial's process, wait for its end, end what it has left, and tell how it ended."""
    _linux.name_process("bench-guard")
    _linux.adopt_orphans()
    _, (log, reports, *orders), _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        request = json.loads(file.readline())
    wake = _wake_for_children()
    guard, trial = os.getpid(), os.fork()
    if not trial:
        connection.close()
        _be_trial(request, log, reports, orders, guard)
    for given in (log, reports, *orders):
        os.close(given)
    deadline: float | None = None
    ended: dict[int, int] = {}
    lost = False
    with contextlib.suppress(OSError):  # the worker is gone
        connection.sendall(NUMBER.pack(guard))
        while trial not in ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            readable = ready([connection.fileno(), server_alive, wake], left)
            if wake in readable:
                _drain(wake)
                ended |= _reaped()
            if lost := server_alive in readable:
                break
            if connection.fileno() in readable:
                if connection.recv(1) != END_IT:
                    break
                os.kill(trial, signal.SIGXCPU)
                deadline = time.monotonic() + GRACE
            elif not readable:
                break
    ended |= _end_all(trial, wake)
    if not lost:
        with contextlib.suppress(OSError):
            connection.sendall(NUMBER.pack(ended[trial]))


def _end_all(trial: int, wake: int) -> dict[int, int]:
    """End the trial's process and what it has started, and wait until nothing of it is left. Returns exit codes."""
    ended: dict[int, int] = {}
    while True:
        if sys.platform == "linux":
            _kill(_linux.children(os.getpid()))  # orphans become children of this process, so the next look finds them
        else:
            with contextlib.suppress(OSError):
                os.killpg(trial, signal.SIGKILL)
        try:
            ended |= _reaped(strict=True)
        except ChildProcessError:
            return ended
        ready([wake], _LOOK)
        _drain(wake)


def _reaped(*, strict: bool = False) -> dict[int, int]:
    """Exit codes of children that have ended, by process. `strict`: raise `ChildProcessError` where there are none."""
    found: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return found
            found[pid] = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        if strict and not found:
            raise
        return found


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _be_trial(request: dict[str, Any], log: int, reports: int, orders: list[int], guard: int) -> NoReturn:
    """Become the process that was asked for."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
        _linux.name_process(request["name"])
        _linux.end_with_parent()
        if os.getppid() != guard:
            os._exit(1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what was printed last is in the log
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # leaves no file
        with contextlib.suppress(OSError):  # a higher priority than the server's, which only root may ask for
            os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
        with contextlib.suppress(OSError):  # a trial has a session of its own, which begins with an ordinary priority
            _linux.AUTOGROUP.write_text(str(request["nice"]), encoding="utf-8")
        with contextlib.suppress(OSError):
            if request["oom_score"] is not None:
                _linux.OOM_SCORE.write_text(request["oom_score"], encoding="utf-8")
        os.environ.clear()
        os.environ.update(request["environment"])  # the worker knows its GPUs, which the server does not
        os.chdir(request["folder"])
        sys.path[:] = [*request["path"], *(p for p in sys.path if p not in request["path"])]
        module, _, function = request["target"].partition(":")
        with open(reports, "w", encoding="utf-8") as out:
            own = os.getpid()

            def report(message: Any) -> None:
                if os.getpid() == own:  # a process that the trial forked must not report
                    out.write(json.dumps(message) + "\n")
                    out.flush()

            lines = [os.fdopen(each, encoding="utf-8") for each in orders]  # open as long as the process lives
            getattr(importlib.import_module(module), function)(request["argument"], report, *lines)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _be_without_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _wake_for_children() -> int:
    """What can be read when a child has ended."""
    wake, written = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake


def _drain(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wake, 1 << 12)
