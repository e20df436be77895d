"""The pre-fork server: one process loads torch, timm and the plug-ins once, and every trial is forked from it.

`running` starts the server of a run. Workers on the machine find it by a variable in their environment. A process
without that variable (on the nodes of a cluster, in a plain script), and one whose server is lost, starts a server of
its own at its first trial.

    server (bench-server) - a guard for each trial (bench-guard) - the trial (bench-trial) - what the trial starts

The guard ends the trial and everything that the trial has started as soon as the trial's process ends, or the worker
hangs up, or the server is gone. Only then does it tell the worker how the trial's process ended. The server is gone
when its owner is, since it ends with the other end of its standard input.

Nothing that the server loads may start a thread: a fork would not have it. So there is a forward pass on one thread,
which sets up oneDNN, and no backward pass.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

from normbench.errors import BenchError
from normbench.runner import _linux
from normbench.runner.folder import scratch
from normbench.spec.outcome import LOG_BYTES
from normbench.spec.text import bounded

#: The variable by which workers know the address of the run's server.
ADDRESS = "NORMBENCH_SERVER"
#: Seconds that a server may take to load everything. Minutes are ordinary on a busy machine.
START_LIMIT = 1800.0
#: Seconds that a trial has to write down where it stands, once its guard was told to end it.
GRACE = 30.0
_COMMAND = (
    "import json, sys; path, listener = json.loads(sys.argv.pop()); "
    "sys.path[:] = [*path, *(p for p in sys.path if p not in path)]; "
    "from normbench.runner import spawn; spawn.serve(listener)"
)
#: Workers that may ask before the server has loaded everything.
_BACKLOG = 1024
_NUMBER = struct.Struct("!i")
_END_IT = b"!"
#: Seconds between two looks at processes that are being ended.
_LOOK = 0.05


class SpawnError(BenchError):
    """No process could be started. `log`: what the server wrote last."""

    def __init__(self, log: str) -> None:
        super().__init__("no process could be started for it: the server that it was to be forked from ended")
        self.log = log


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Start a server, and yield the variables by which workers on this machine find it. Does not wait until the server
    has loaded everything.
    """
    with scratch("server-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(folder / "socket")  # a folder that its owner alone may enter
        try:
            listener.bind(address)
        except OSError:  # the path is too long; workers start servers of their own
            yield {}
            return
        listener.listen(_BACKLOG)
        server = _Server(listener)
        listener.close()  # once the server ends, whoever asks is refused at once
        try:
            yield {ADDRESS: address}
        finally:
            server.end()


class Process:
    """A trial's process, as the worker that asked for it sees it. A context manager: nothing of it is left behind."""

    def __init__(self, connection: socket.socket, reports: int, guard: int) -> None:
        self.guard = guard
        """Its guard's process, below which everything is that the trial has started."""
        self.ended = False
        self.exit_code: int | None = None
        """Exit code, negative for a signal; None after the end: it was lost with its guard or server."""
        self._connection, self._reports, self._text = connection, reports, b""
        self._open = True
        os.set_blocking(reports, False)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)  # the guard ends everything, and answers
        if not self.ended:
            self._settle()
        self._connection.close()
        os.close(self._reports)

    def receive(self, timeout: float) -> list[Any]:
        """What the process has reported, after at most `timeout` seconds of waiting for it. Sets `ended` once nothing
        more can come.
        """
        sources = [self._connection.fileno(), *([self._reports] if self._open else [])]
        if self._connection.fileno() in _ready(sources, timeout):
            self._settle()
        if self._open:
            self._read()
        *lines, self._text = self._text.split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """Have the process write its stack to its log, and end."""
        with contextlib.suppress(OSError):
            self._connection.sendall(_END_IT)

    def _settle(self) -> None:
        answer = b""
        with contextlib.suppress(OSError):
            answer = self._connection.recv(_NUMBER.size, socket.MSG_WAITALL)
        self.ended = True
        self.exit_code = _NUMBER.unpack(answer)[0] if len(answer) == _NUMBER.size else None

    def _read(self) -> None:
        """Read what is there. The end of the pipe says nothing: processes that the trial forked may hold it open."""
        with contextlib.suppress(BlockingIOError):
            while self._open:
                chunk = os.read(self._reports, 1 << 16)
                self._open = bool(chunk)
                self._text += chunk


_own: _Server | None = None
_starting = threading.Lock()


def start(target: str, argument: Any, log: BinaryIO) -> Process:
    """Call `target` ("module:function") with `argument` (JSON values) and a function that reports JSON values, in a new
    process, with this process's environment, search path, working directory and priority. Its output goes to the
    open file `log`.

    Raises `SpawnError` where not even a new server can start a process.
    """
    request = {
        "target": target,
        "argument": argument,
        "path": _search_path(),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": _linux.OOM_SCORE.read_text() if _linux.OOM_SCORE.exists() else None,
    }
    if address := os.environ.get(ADDRESS):
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):  # it is lost: from now on this process has its own
            connection.connect(address)
            return _ask(connection, request, log)
        connection.close()
    global _own
    with _starting:
        for _ in range(2):  # the one at hand may be lost too
            _own = _own or _Server()
            try:
                return _ask(_own.connect(), request, log)
            except OSError:
                said, _own = _own.end(), None
    raise SpawnError(said)


@atexit.register
def _end_own() -> None:
    if _own is not None:
        _own.end()


class _Server:
    """The server's process as its owner sees it."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self._control, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        given = json.dumps([_search_path(), None if listener is None else listener.fileno()])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, given],
                cwd="/",
                env=os.environ | {"PYTHONPATH": os.pathsep.join(_python_path())},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[] if listener is None else [listener.fileno()],
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def end(self) -> str:
        """End the process, and with it all that was forked from it. Returns the last that it wrote."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        with self._errors:
            self._errors.seek(0)
            return bounded(self._errors.read().decode(errors="replace").strip(), LOG_BYTES, end=True)


def _search_path() -> list[str]:
    """This process's `sys.path` without its working directory: a user's own `numpy.py` there is none of a trial's."""
    named = _python_path()
    return [p for p in sys.path if Path(p).is_absolute() and (p in named or Path(p) != Path.cwd())]


def _python_path() -> list[str]:
    """The folders of `PYTHONPATH`; an empty or relative name for the working directory is left out."""
    given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return [str(Path.cwd() / p) for p in given if Path(p).is_absolute() or (Path.cwd() / p).resolve() != Path.cwd()]


def _ask(connection: socket.socket, request: dict[str, Any], log: BinaryIO) -> Process:
    """Have the server at the other end start a process. Raises `OSError` where the server is gone."""
    theirs: int | None
    ours, theirs = os.pipe()
    try:
        connection.settimeout(START_LIMIT)
        socket.send_fds(connection, [b"+"], [log.fileno(), theirs])
        os.close(theirs)
        theirs = None
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.recv(_NUMBER.size, socket.MSG_WAITALL)
        if len(answer) != _NUMBER.size:
            raise ConnectionResetError
        connection.settimeout(None)
    except BaseException:
        connection.close()
        os.close(ours)
        if theirs is not None:
            os.close(theirs)
        raise
    return Process(connection, ours, _NUMBER.unpack(answer)[0])


def serve(listener_fd: int | None) -> NoReturn:
    """Be a server: load everything, then fork a guard for each connection, until the owner is gone."""
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
        ready = _ready([wake, *(source.fileno() for source in sources)])
        if wake in ready:
            _drain(wake)
            guards -= _reaped().keys()
            _kill(_linux.children(os.getpid()) - guards)  # what a guard that was killed has left
        for source in sources:
            if source.fileno() not in ready:
                continue
            if source is control:
                received: list[int] = []
                with contextlib.suppress(OSError):
                    _, received, _, _ = socket.recv_fds(control, 1, 1)
                if not received:
                    os._exit(0)  # its guards end what they watch
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
                    _guard(connection, alive)
                finally:
                    os._exit(0)


def _load() -> None:
    """Import everything that a trial imports, and compute what is computed once a process."""
    import foolbox  # noqa: F401
    import torch

    from normbench import attacks, measures, norms
    from normbench.lab import trial_run  # noqa: F401
    from normbench.norms import layers
    from normbench.spec import architectures

    for package in (norms, layers, attacks, measures):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(Exception):  # a broken plug-in is reported by the trial that wants it
                importlib.import_module(module.name)
    architectures.architectures()
    with contextlib.suppress(RuntimeError), torch.no_grad():
        torch.set_num_threads(1)
        torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    # Whatever stands now stands in every child. A child's first look for garbage would go through all of it, and copy
    # the memory that it lies in: 0.3 s a trial.
    gc.collect()
    gc.freeze()


def _guard(connection: socket.socket, server_alive: int) -> None:
    """Start one trial's process, wait for its end, end what it has left, and tell how it ended."""
    _linux.name_process("bench-guard")
    _linux.adopt_orphans()
    _, (log, reports), _, _ = socket.recv_fds(connection, 1, 2)
    with connection.makefile("rb") as file:
        request = json.loads(file.readline())
    wake = _wake_for_children()
    guard, trial = os.getpid(), os.fork()
    if not trial:
        connection.close()
        _be_trial(request, log, reports, guard)
    os.close(log)
    os.close(reports)
    deadline: float | None = None
    ended: dict[int, int] = {}
    lost = False
    with contextlib.suppress(OSError):  # the worker is gone
        connection.sendall(_NUMBER.pack(guard))
        while trial not in ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = _ready([connection.fileno(), server_alive, wake], left)
            if wake in ready:
                _drain(wake)
                ended |= _reaped()
            if lost := server_alive in ready:
                break
            if connection.fileno() in ready:
                if connection.recv(1) != _END_IT:
                    break
                os.kill(trial, signal.SIGXCPU)
                deadline = time.monotonic() + GRACE
            elif not ready:
                break
    ended |= _end_all(trial, wake)
    if not lost:
        with contextlib.suppress(OSError):
            connection.sendall(_NUMBER.pack(ended[trial]))


def _end_all(trial: int, wake: int) -> dict[int, int]:
    """End the trial's process and what it has started, and wait until nothing of it is left. Returns exit codes."""
    ended: dict[int, int] = {}
    while True:
        if sys.platform == "linux":
            _kill(_linux.children(os.getpid()))  # orphans come to this process, so that the next look finds them
        else:
            with contextlib.suppress(OSError):
                os.killpg(trial, signal.SIGKILL)
        try:
            ended |= _reaped(strict=True)
        except ChildProcessError:
            return ended
        _ready([wake], _LOOK)
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


def _be_trial(request: dict[str, Any], log: int, reports: int, guard: int) -> NoReturn:
    """Become the process that was asked for."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
        _linux.name_process("bench-trial")
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
        with contextlib.suppress(OSError):
            if request["oom_score"] is not None:
                _linux.OOM_SCORE.write_text(request["oom_score"])
        os.environ.clear()
        os.environ.update(request["environment"])  # the worker knows its GPUs, which the server does not
        os.chdir(request["folder"])
        sys.path[:] = [*request["path"], *(p for p in sys.path if p not in request["path"])]
        module, _, function = request["target"].partition(":")
        with open(reports, "w") as out:
            own = os.getpid()

            def report(message: Any) -> None:
                if os.getpid() == own:  # a fork of the trial has nothing to say
                    out.write(json.dumps(message) + "\n")
                    out.flush()

            getattr(importlib.import_module(module), function)(request["argument"], report)
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


def _ready(sources: Iterable[int], timeout: float | None = None) -> set[int]:
    """Which of these have something to read, or have come to their end, after at most `timeout` seconds."""
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return {source for source, _ in poll.poll(None if timeout is None else timeout * 1000)}


def _drain(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wake, 1 << 12)
