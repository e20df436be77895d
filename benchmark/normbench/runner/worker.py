"""One trial in a process of its own: a segfault, a hang or a kill costs that trial alone and becomes its outcome.

The worker is Ray's, or any process. `normbench.runner.spawn` gives it the processes of its trials.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from normbench.runner import spawn
from normbench.runner.clock import WorkClock
from normbench.runner.retry import LOST
from normbench.runner.serving import in_turn, serving, shape_of
from normbench.spec.outcome import LOG_BYTES, LOG_LINES, Outcome, Status
from normbench.spec.text import bounded
from normbench.spec.trial import Trial

#: Seconds between two looks at how long a trial has worked.
_LOOK = 0.5
#: Files where the kernel counts the processes that it ended for lack of memory: in this container, or on the machine.
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/proc/vmstat")


@dataclass(frozen=True)
class Job:
    """A trial as it travels to where it runs: plain values only."""

    trial: str
    """JSON of the `Trial`."""
    context: dict[str, Any]
    """Fields of `normbench.lab.trial_run.Context`."""
    time_limit: float
    """Seconds, see `normbench.runner.clock`."""
    serves: bool = False
    """Its process may have run trials before, and may run others afterwards: see `normbench.runner.serving`."""


def supervise(job: Job, report: Callable[[dict[str, Any]], None]) -> Outcome:
    """Run a job in a process of its own until it ends in some way. `report` is called with its progress as
    dictionaries.

    Nothing that the trial has started is alive afterwards (outside of Linux: nothing of its process group).
    """
    watch, kernel_kills = _Watch(job, report), _kernel_kills()
    if job.serves:
        return _served(job, watch, kernel_kills)
    with tempfile.TemporaryFile() as log:
        try:
            with spawn.start(f"{__name__}:run_here", asdict(job), log) as process:
                watch.until_the_end(process)
        except spawn.SpawnError as error:
            return watch.failed((Status.KILLED, str(error), {"ended_by": LOST}), error.log)
        return watch.ended(process.exit_code, kernel_kills, log)


def _served(job: Job, watch: _Watch, kernel_kills: int) -> Outcome:
    """As `supervise`, in a process that goes on with the next trial of this shape once this one is `ok`."""
    shape = shape_of(Trial.model_validate_json(job.trial), job.context)
    try:
        while True:
            with serving(f"{__name__}:serve_here", asdict(job), shape) as served:
                watch.until_the_end(served.process)
                served.keep = watch.outcome is not None and watch.outcome.status == Status.OK
                if served.reused and watch.unheard:
                    continue  # it ended before it took the order up
                return watch.ended(served.process.exit_code, kernel_kills, served.log, served.since)
    except spawn.SpawnError as error:
        return watch.failed((Status.KILLED, str(error), {"ended_by": LOST}), error.log)


def supervise_all(
    jobs: Sequence[Job], report: Callable[[int, dict[str, Any]], None], ended: Callable[[int, Outcome], None]
) -> None:
    """As `supervise`, of jobs that run together in one process: see `normbench.lab.together`. Both functions are called
    with the number of the job. All have the time of all, and what ends the process ends those that run in it.
    """
    if len(jobs) == 1:
        ended(0, supervise(jobs[0], partial(report, 0)))
        return
    kernel_kills, whole = _kernel_kills(), sum(job.time_limit for job in jobs)
    watches = [_Watch(replace(job, time_limit=whole), partial(report, which)) for which, job in enumerate(jobs)]
    left = dict(enumerate(watches))
    with tempfile.TemporaryFile() as log:
        try:
            with spawn.start(f"{__name__}:run_together_here", [asdict(job) for job in jobs], log) as process:
                while left and not process.ended:
                    for kind, (which, message) in process.receive(_LOOK):
                        watches[which].take(kind, message, process.guard)
                        if watches[which].outcome is not None:
                            ended(which, left.pop(which).ended(None, kernel_kills, log))
                    for watch in left.values():
                        watch.look(process)
        except spawn.SpawnError as error:
            for which, watch in left.items():
                ended(which, watch.failed((Status.KILLED, str(error), {"ended_by": LOST}), error.log))
            return
        for which, watch in left.items():
            ended(which, watch.ended(process.exit_code, kernel_kills, log))


class _Watch:
    """A running trial: what it has reported, and how long it may run."""

    def __init__(self, job: Job, report: Callable[[dict[str, Any]], None]) -> None:
        self._job, self._report = job, report
        self._started, self._began = time.time(), time.monotonic()
        self._clock: WorkClock | None = None
        self._epoch = 0
        self.outcome: Outcome | None = None
        self.over = ""
        """Why the trial is ended early; empty where it is not."""

    def until_the_end(self, process: spawn.Process) -> None:
        """Read what the trial reports until it has an outcome or is ended."""
        while self.outcome is None and not process.ended:
            for kind, message in process.receive(_LOOK):
                self.take(kind, message, process.guard)
            self.look(process)

    def look(self, process: spawn.Process) -> None:
        """End the process where the time is over."""
        if self._clock is not None and not self.over:
            self._clock.look()
            self.over = self._clock.over
            if self.over:
                process.stop()

    def take(self, kind: str, message: Any, guard: int) -> None:
        match kind:
            case "started":
                self._started, context = time.time(), self._job.context
                self._clock = WorkClock(
                    guard,
                    self._job.time_limit,
                    spent=message["spent"],
                    worked=message["worked"],
                    threads=context.get("threads", 1),
                    by_wall=context.get("device", "cpu") != "cpu",
                )
            case "progress":
                self._epoch = int(message["epoch"])
                self._report(message)
            case "outcome":
                self.outcome = Outcome.model_validate_json(message)

    @property
    def unheard(self) -> bool:
        """Whether the process has ended without a word."""
        return self.outcome is None and self._clock is None

    def ended(self, exit_code: int | None, kernel_kills: int, log: BinaryIO, since: int = 0) -> Outcome:
        """What has come of the trial. kernel_kills: how many there were before it; since: where its log begins."""
        if self.outcome is not None:
            return self.outcome
        if self.over:
            return self.failed((Status.TIMED_OUT, self.over, {}), last_lines(log, since))
        verdict = _verdict(exit_code, for_memory=_kernel_kills() > kernel_kills)
        return self.failed(verdict, last_lines(log, since))

    def failed(self, verdict: tuple[Status, str, dict[str, str]], log: str) -> Outcome:
        status, reason, facts = verdict
        return Outcome(
            status=status,
            reason=reason,
            log=log,
            epoch=self._epoch,
            started=self._started,
            wall_seconds=self._clock.wall if self._clock else time.monotonic() - self._began,
            provenance={**self._job.context["provenance"], **facts},
        )


def _verdict(exit_code: int | None, *, for_memory: bool) -> tuple[Status, str, dict[str, str]]:
    """Status, reason, and for the provenance: what ended the process (`ended_by`), or which memory ran out (`out_of`).
    See `normbench.runner.retry`.
    """
    by_signal = exit_code is not None and exit_code < 0
    name = signal.Signals(-exit_code).name if by_signal and exit_code is not None else f"exit code {exit_code}"
    if for_memory and (exit_code is None or name == "SIGKILL"):
        what = "its process" if by_signal else "the process that it was forked from"
        return Status.OUT_OF_MEMORY, f"the kernel ended {what}: the host was out of memory", {"out_of": "host memory"}
    if exit_code is None:
        return Status.KILLED, "the process that it was forked from was lost", {"ended_by": LOST}
    if by_signal:
        return Status.KILLED, f"its process was ended by {name}", {"ended_by": name}
    return Status.KILLED, f"its process ended with {name} before it had an outcome", {"ended_by": name}


def _kernel_kills() -> int:
    """How many processes the kernel has ended so far because memory ran out; 0 where that is not known."""
    for path in OOM_COUNTERS:
        with contextlib.suppress(OSError):
            for line in Path(path).read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def run_here(job: dict[str, Any], report: Callable[[Any], None]) -> None:
    """Run a job in this process, which is the trial's alone, and report its start, its progress and its outcome."""
    _show_stacks()
    from normbench.lab.trial_run import Context, checkpointer, run

    trial, context = Trial.model_validate_json(job["trial"]), Context(**job["context"])
    kept = checkpointer(trial, context)
    report(("started", {"spent": kept.spent if kept else 0.0, "worked": kept.worked if kept else 0.0}))
    outcome = run(trial, context, lambda progress: report(("progress", asdict(progress))), kept)
    report(("outcome", outcome.model_dump_json()))


def run_together_here(jobs: Sequence[dict[str, Any]], report: Callable[[Any], None]) -> None:
    """As `run_here`, of jobs that run together. Each report has the number of its job."""
    _show_stacks()
    from normbench.lab.together import run_together
    from normbench.lab.trial_run import Context

    for which in range(len(jobs)):
        report(("started", [which, {"spent": 0.0, "worked": 0.0}]))
    run_together(
        [(Trial.model_validate_json(job["trial"]), Context(**job["context"])) for job in jobs],
        lambda which, progress: report(("progress", [which, asdict(progress)])),
        lambda which, outcome: report(("outcome", [which, outcome.model_dump_json()])),
    )


def _show_stacks() -> None:
    """When the time is over: write the stack of every thread, even inside a call that lets no Python code run, then
    end.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGXCPU, chain=True)


def serve_here(job: dict[str, Any], report: Callable[[Any], None], orders: Iterator[str]) -> None:
    """As `run_here`, then the same with each order, a line of JSON, until there are no more."""
    in_turn(job, orders, partial(run_here, report=report))


def last_lines(log: BinaryIO, since: int = 0) -> str:
    """The last lines of a log, of what was written from `since` on. No more of it is read than is kept."""
    log.seek(max(since, log.seek(0, os.SEEK_END) - LOG_BYTES))
    text = log.read().decode(errors="replace")
    return bounded("\n".join(text.splitlines()[-LOG_LINES:]), LOG_BYTES, end=True)
