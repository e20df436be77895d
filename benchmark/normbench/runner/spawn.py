"""The pre-fork server: one process loads torch, timm and the plug-ins once, and every trial is forked from it.

`running` starts the server of a run. Workers on the machine find it by a variable in their environment. A process
without that variable (on the nodes of a cluster, in a plain script), and one whose server is lost, starts a server of
its own at its first trial.

`normbench.runner.server` is the server's side.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from normbench.errors import BenchError
from normbench.runner import _linux
from normbench.runner.folder import scratch
from normbench.spec.outcome import LOG_BYTES
from normbench.spec.text import bounded

#: The variable by which workers know the address of the run's server.
ADDRESS = "NORMBENCH_SERVER"
#: Seconds that a server may take to load everything. Minutes are ordinary on a busy machine.
START_LIMIT = 1800.0
_COMMAND = (
    "import json, sys; path, *given = json.loads(sys.argv.pop()); "
    "sys.path[:] = [*path, *(p for p in sys.path if p not in path)]; "
    "from normbench.runner import server; server.serve(*given)"
)
#: So many workers may ask before the server has loaded everything.
_BACKLOG = 1024
#: How process ids and exit codes are sent.
NUMBER = struct.Struct("!i")
#: What a worker sends a guard to have the trial ended.
END_IT = b"!"


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
    """A trial's process, as the worker that asked for it sees it. As a context manager it leaves nothing behind."""

    def __init__(self, connection: socket.socket, reports: int, orders: int | None, guard: int) -> None:
        self.guard = guard
        """The process of its guard, below which are all processes that the trial has started."""
        self.ended = False
        self.exit_code: int | None = None
        """Exit code, negative for a signal. None after the end: the process was lost with its guard or server."""
        self._connection, self._reports, self._text = connection, reports, b""
        self._orders = orders
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
        if self._orders is not None:
            os.close(self._orders)

    def order(self, argument: Any) -> bool:
        """Hand a process that serves its next argument. False where it is gone."""
        assert self._orders is not None  # noqa: S101
        left = json.dumps(argument).encode() + b"\n"
        try:
            while left:
                left = left[os.write(self._orders, left) :]
        except OSError:
            return False
        return True

    def receive(self, timeout: float) -> list[Any]:
        """Wait for at most `timeout` seconds, and return what the process has reported. Sets `ended` once nothing more
        can come.
        """
        sources = [self._connection.fileno(), *([self._reports] if self._open else [])]
        if self._connection.fileno() in ready(sources, timeout):
            self._settle()
        if self._open:
            self._read()
        *lines, self._text = self._text.split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """Have the process write its stack to its log and end."""
        with contextlib.suppress(OSError):
            self._connection.sendall(END_IT)

    def _settle(self) -> None:
        answer = b""
        with contextlib.suppress(OSError):
            answer = self._connection.recv(NUMBER.size, socket.MSG_WAITALL)
        self.ended = True
        self.exit_code = NUMBER.unpack(answer)[0] if len(answer) == NUMBER.size else None

    def _read(self) -> None:
        """Read what is there. The end of the pipe says nothing: processes that the trial forked may hold it open."""
        with contextlib.suppress(BlockingIOError):
            while self._open:
                chunk = os.read(self._reports, 1 << 16)
                self._open = bool(chunk)
                self._text += chunk


_own: _Server | None = None
_starting = threading.Lock()


def start(
    target: str,
    argument: Any,
    log: BinaryIO,
    address: str | None = None,
    name: str = "bench-trial",
    *,
    serves: bool = False,
) -> Process:
    """Call `target` ("module:function") with `argument` (JSON values) and a function that reports JSON values, in a new
    process, with this process's environment, search path, working directory and priority. Its output goes to the
    open file `log`. address: of the run's server, where the environment does not say it. name: of the process, in at
    most 15 characters. serves: the function gets the lines of `Process.order` as a third argument.

    Raises `SpawnError` where not even a new server can start a process.
    """
    request = {
        "target": target,
        "argument": argument,
        "serves": serves,
        "name": name,
        "path": _search_path(),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": _linux.OOM_SCORE.read_text(encoding="utf-8") if _linux.OOM_SCORE.exists() else None,
    }
    if address := address or os.environ.get(ADDRESS):
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):  # the run's server is lost: from now on this process has its own
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
        passed = [] if listener is None else [listener.fileno(), *_standard_error()]
        given = json.dumps([_search_path(), *passed])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, given],
                cwd="/",
                env=os.environ | {"PYTHONPATH": os.pathsep.join(_python_path())},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )
        for mine in passed[1:]:
            os.close(mine)

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
        self._process.kill()  # before it is told that its owner is gone: it would say so
        self._process.wait()
        self._control.close()
        with self._errors:
            self._errors.seek(0)
            return bounded(self._errors.read().decode(errors="replace").strip(), LOG_BYTES, end=True)


def _standard_error() -> list[int]:
    """A copy of the owner's, for the server's last word; none where that is closed."""
    try:
        return [os.dup(2)]
    except OSError:
        return []


def _search_path() -> list[str]:
    """This process's `sys.path` without its working directory: trials must not import a user's own `numpy.py` there."""
    named = _python_path()
    return [p for p in sys.path if Path(p).is_absolute() and (p in named or Path(p) != Path.cwd())]


def _python_path() -> list[str]:
    """The folders of `PYTHONPATH`; an empty or relative name for the working directory is left out."""
    given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return [str(Path.cwd() / p) for p in given if Path(p).is_absolute() or os.path.realpath(p) != str(Path.cwd())]


def _ask(connection: socket.socket, request: dict[str, Any], log: BinaryIO) -> Process:
    """Have the server at the other end start a process. Raises `OSError` where the server is gone."""
    ours, theirs = os.pipe()
    given, orders = os.pipe() if request["serves"] else (None, None)
    sent = [log.fileno(), theirs, *([] if given is None else [given])]
    try:
        connection.settimeout(START_LIMIT)
        socket.send_fds(connection, [b"+"], sent)
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.recv(NUMBER.size, socket.MSG_WAITALL)
        if len(answer) != NUMBER.size:
            raise ConnectionResetError
        connection.settimeout(None)
    except BaseException:
        connection.close()
        for own in (ours, orders):
            if own is not None:
                os.close(own)
        raise
    finally:
        for other in sent[1:]:
            os.close(other)
    return Process(connection, ours, orders, NUMBER.unpack(answer)[0])


def ready(sources: Iterable[int], timeout: float | None = None) -> set[int]:
    """Wait for at most `timeout` seconds, and return which sources have something to read, or have ended."""
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return {source for source, _ in poll.poll(None if timeout is None else timeout * 1000)}
