"""One trial in a process of its own: a segfault, a hang or a kill costs that trial alone and becomes its outcome.

The parent is a Ray worker (or any process). Children come from a fork server that has torch and timm loaded already, so
that a trial starts in hundredths of a second. A child whose parent is gone ends by itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from normbench.runner import warm
from normbench.runner.retry import LOST
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial

#: Seconds that a child has to end by itself at its time limit before it is killed.
GRACE = 5.0
#: Seconds for the fork server to load torch and start a child, which is not the trial's time.
START_LIMIT = 300.0
_LOG_BYTES = 8_000
#: The exit code that multiprocessing makes up where nobody is left to tell the true one.
SERVER_GONE = 255
#: Where the kernel counts the processes that it ended for want of memory: of this container, or of the machine.
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/proc/vmstat")


@dataclass(frozen=True)
class Job:
    """A trial as it travels to where it runs: plain values only."""

    trial: str
    """JSON of the `Trial`."""
    context: dict[str, Any]
    """Fields of `normbench.lab.trial_run.Context`."""
    time_limit: float


def supervise(job: Job, report: Callable[[dict[str, Any]], None]) -> Outcome:
    """Run a job in a child process to its end, whatever that is. `report` gets the child's progress as dictionaries."""
    started, clock, spent = time.time(), time.monotonic(), 0.0
    kernel_kills = _kernel_kills()
    context = warm.context()
    receiver, sender = context.Pipe(duplex=True)
    with tempfile.TemporaryDirectory(prefix="normbench-") as folder:
        log = Path(folder) / "log"
        log.touch()
        process = context.Process(target=_child, args=(sender, asdict(job), str(log), dict(os.environ)), daemon=True)
        with _no_main_module():
            process.start()
        sender.close()
        progress: dict[str, Any] = {}
        outcome: Outcome | None = None
        deadline = clock + START_LIMIT
        try:
            while outcome is None and receiver.poll(max(0.0, deadline - time.monotonic())):
                try:
                    kind, message = receiver.recv()
                except (EOFError, ConnectionResetError):
                    process.join(GRACE)  # its end of the connection closes just before it ends
                    break
                match kind:
                    case "started":
                        started, clock, spent = time.time(), time.monotonic(), message
                        deadline = clock + max(0.0, job.time_limit - spent) + GRACE
                    case "progress":
                        progress = message
                        report(message)
                    case "outcome":
                        outcome = Outcome.model_validate_json(message)
        finally:
            process.kill()
            process.join()
            receiver.close()
        if outcome is not None:
            return outcome
        elapsed = time.monotonic() - clock + spent
        status, reason, facts = _verdict(
            process.exitcode, elapsed, job.time_limit, for_memory=_kernel_kills() > kernel_kills
        )
        return Outcome(
            status=status,
            reason=reason,
            log=_last(log),
            epoch=int(progress.get("epoch", 0)),
            started=started,
            wall_seconds=elapsed,
            provenance={**job.context["provenance"], **facts},
        )


def _verdict(
    exit_code: int | None, elapsed: float, limit: float, *, for_memory: bool
) -> tuple[Status, str, dict[str, str]]:
    """Status, reason, and for the provenance: what ended the process (`ended_by`), or which memory ran out (`out_of`).
    See `normbench.runner.retry`.
    """
    if elapsed >= limit:
        return Status.TIMED_OUT, f"it ran longer than its limit of {limit:g} s", {}
    if exit_code == SERVER_GONE and for_memory:
        return (
            Status.OUT_OF_MEMORY,
            "the kernel ended the process that it was forked from: the host was out of memory",
            {"out_of": "host memory"},
        )
    if exit_code == SERVER_GONE:
        return Status.KILLED, "the process that it was forked from was lost", {"ended_by": LOST}
    if exit_code is None or exit_code >= 0:
        return (
            Status.KILLED,
            f"its process ended with exit code {exit_code} before it had an outcome",
            {"ended_by": f"exit code {exit_code}"},
        )
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL" and for_memory:
        return (
            Status.OUT_OF_MEMORY,
            "the kernel ended its process: the host was out of memory",
            {"out_of": "host memory"},
        )
    return Status.KILLED, f"its process was ended by {name}", {"ended_by": name}


def _kernel_kills() -> int:
    """How many processes the kernel has ended so far because memory ran out; 0 where it does not say."""
    for path in OOM_COUNTERS:
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _child(connection: Connection, job: dict[str, Any], log: str, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    warm.call_it("bench-trial")
    os.environ.clear()
    os.environ.update(environment)  # the server's is older than the worker's choice of GPUs (CUDA_VISIBLE_DEVICES)
    _end_with_fork_server()
    with Path(log).open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(
                    line_buffering=True
                )  # what was printed last must be in the log when the process is ended
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        from normbench.lab.trial_run import Context, checkpointer, run

        trial, context = Trial.model_validate_json(job["trial"]), Context(**job["context"])
        kept = checkpointer(trial, context)
        spent = kept.spent if kept else 0.0
        connection.send(("started", spent))
        faulthandler.enable(file)
        faulthandler.dump_traceback_later(
            max(0.1, job["time_limit"] - spent), exit=True, file=file
        )  # works inside a stuck C call too
        outcome = run(trial, context, lambda p: connection.send(("progress", asdict(p))), kept)
        faulthandler.cancel_dump_traceback_later()
        connection.send(("outcome", outcome.model_dump_json()))
        sys.stdout.flush()


def _end_with_parent(connection: Connection) -> None:
    """The parent never sends: the only thing that can arrive is the end of the connection."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


def _end_with_fork_server() -> None:
    """The fork server ends when the parent does, and this process with it.

    The server knows by a pipe whose other end the parent has, and of which multiprocessing gives every child a copy:
    held on to, it keeps the server alive.
    """
    server: Any = forkserver._forkserver
    if (alive := getattr(server, "_forkserver_alive_fd", None)) is not None:
        os.close(alive)
        server._forkserver_alive_fd = None
    warm.end_with_parent()


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep multiprocessing from importing the parent's main script again in every child; nothing of it is needed
    there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _last(log: Path) -> str:
    text = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
    return "\n".join(text.splitlines()[-30:])
