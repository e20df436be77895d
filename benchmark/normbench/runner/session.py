"""The run of a plan: runs what is not cached, and stores each outcome as it comes."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from normbench.paths import cache_dir, seconds
from normbench.plan.plan import Item, Plan, State
from normbench.plan.provenance import provenance
from normbench.runner.cluster import Connection
from normbench.runner.logs import Logs
from normbench.runner.progress import Display, display, duration
from normbench.runner.retry import GOES_ON
from normbench.runner.sharing import shares
from normbench.runner.tune import Events, Options, execute
from normbench.spec.outcome import Outcome, Status
from normbench.spec.shown import counted
from normbench.spec.trial import Limits, digest
from normbench.store import weights
from normbench.store.store import Store, StoreError

#: Ends that say nothing about a method; they make `bench run` exit non-zero.
BROKEN = {Status.ERROR, Status.KILLED}
#: Least seconds between two checkpoints of a trial (`NORMBENCH_CHECKPOINT_SECONDS` sets another number).
CHECKPOINT_SECONDS = 120.0


class _CannotStoreError(BaseException):
    """A result could not be written. It is no `Exception`: Tune would take one for a failed trial, and go on."""

    def __init__(self, error: StoreError) -> None:
        self.error = error


@dataclass(frozen=True)
class Summary:
    """How the trials of one run ended, in the order in which they did."""

    ended: tuple[tuple[Item, Status, str], ...]
    facts: tuple[dict[str, Any], ...] = ()
    """The provenance of each that was run."""

    def __add__(self, other: Summary) -> Summary:
        return Summary(self.ended + other.ended, self.facts + other.facts)

    @property
    def counts(self) -> Counter[Status]:
        return Counter(status for _, status, _ in self.ended)

    @property
    def broken(self) -> list[tuple[Item, Status, str]]:
        return [e for e in self.ended if e[1] in BROKEN]


def announce(plan: Plan) -> str:
    """One line about what a run will do."""
    counts = ", ".join(f"{plan.count(s):,} {s.value}" for s in State if plan.count(s))
    if plan.tuning:
        counts += f", {plan.waiting:,} waiting" if plan.waiting else ""
        candidates = counted(len(plan.items) + plan.waiting - plan.final, "candidate")
        head = f"{candidates}, {counted(plan.final, 'final trial')} after tuning"
    else:
        head = counted(len(plan.items), "trial")
    return f"{plan.suite}: {head} ({counts}){_estimated(plan)}"


def _estimated(plan: Plan) -> str:
    """How long it should take, and what that is judged by: trials of the same shape, wherever they were run."""
    if not plan.todo or plan.estimate is None:
        return ""
    told = f"{duration(plan.estimate)} of trial time"
    first, then = plan.estimates["candidates"], plan.estimates["final"]
    if first and then:
        told = f"{duration(first)} of trial time for candidates and {duration(then)} for final trials"
    by = f"{counted(sum(plan.judged_by.values()), 'stored trial')} ({', '.join(plan.judged_by)})"
    return f"; about {told}, judged by {by}"


def run(
    plan: Plan,
    store: Store,
    limits: Limits,
    *,
    console: Console,
    data_dir: Path | None,
    jobs: int | None,
    ray: Connection,
    keep_weights: bool = False,
    logs: Logs | None = None,
) -> Summary:
    """Run everything in `plan.todo`. Each outcome is on disk before the next event is looked at.

    keep_weights: those of final trials, see `normbench.store.weights`. logs: where each trial goes when it is stored.
    Raises `Interrupted`, and `StoreError` at the first outcome that cannot be written.
    """
    if not plan.todo:
        return Summary(())
    checkpoints = Checkpoints(_checkpoint_folder(store))
    ended: list[tuple[Item, Status, str]] = []
    facts: list[dict[str, Any]] = []

    def done(item: Item, outcome: Outcome, shown: Display) -> None:
        if item.search:  # the settings that a candidate decides on, so that its row tells them without the suite file
            outcome = outcome.model_copy(
                update={"provenance": outcome.provenance | {"tuned": list(item.search.settings)}}
            )
        outcome = weights.confirmed(store, plan.suite, item.trial.trial_id, outcome)
        try:
            store.write(plan.suite, item.trial, item.identity.placed(outcome).to_dict(), outcome)
        except StoreError as error:
            raise _CannotStoreError(error) from error
        checkpoints.settled(item, outcome.status)
        ended.append((item, outcome.status, outcome.reason))
        facts.append(outcome.provenance)
        shown.done(item, outcome)
        if logs:
            logs.trial(item.trial, outcome)
        for key in ("checkpoint", weights.PROBLEM):
            if said := outcome.provenance.get(key):
                shown.note(f"{item.trial.title}: {said}")

    todo = [item for item in plan.todo if not item.no_choice]
    try:
        _forgo([item for item in plan.todo if item.no_choice], console, done)
        checkpoints.open(plan)
        with closing(
            shares(store, plan.suite, todo, lambda text: console.print(text, highlight=False, soft_wrap=True))
        ) as parts:
            for mine in parts:
                _prepare(mine, data_dir, console)
                with interruptible(), display(console, mine) as shown:
                    options = Options(
                        data_dir=data_dir,
                        provenance=provenance(),
                        jobs=jobs,
                        ray=ray,
                        checkpoints=checkpoints.folder,
                        checkpoint_seconds=seconds("NORMBENCH_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS),
                        weights={"root": str(store.root), "suite": plan.suite} if keep_weights else None,
                    )
                    execute(
                        mine,
                        limits,
                        options,
                        Events(shown.started, shown.progress, partial(done, shown=shown), shown.placed, shown.again),
                    )
    except _CannotStoreError as stop:
        raise stop.error from None
    checkpoints.close()
    return Summary(tuple(ended), tuple(facts))


def both_phases(
    plan: Plan, run_all: Callable[[Plan], Summary], again: Callable[[Collection[str]], Plan]
) -> tuple[Plan, Summary]:
    """Run a plan, then the final trials whose settings it has chosen. These are known once every candidate has ended in
    some way. again: makes the plan anew, given the ids of the trials that have just been run.
    """
    summary = run_all(plan)
    if not plan.waiting:
        return plan, summary
    plan = again({item.trial.trial_id for item, _, _ in summary.ended})
    return plan, summary + run_all(plan)


def _forgo(items: Sequence[Item], console: Console, done: Callable[[Item, Outcome, Display], None]) -> None:
    """Write the rows of trials that cannot be run, because no candidate of their search can be chosen."""
    if not items:
        return
    with display(console, items) as shown:
        for item in items:
            assert item.no_choice is not None  # noqa: S101
            done(
                item,
                Outcome(
                    status=item.no_choice.status,
                    reason=item.no_choice.reason,
                    started=time.time(),
                    provenance=provenance(),
                ),
                shown,
            )


@dataclass(frozen=True)
class Checkpoints:
    """The folder of checkpoints beside the results. The checkpoint of a trial goes when the trial's row is stored."""

    folder: Path

    def open(self, plan: Plan) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write to the results folder {self.folder.parent}: {error.strerror or error}"
            ) from error
        for item in plan.items:
            if item.state is State.CACHED and item.stored:
                self.settled(item, Status(item.stored["status"]))

    def settled(self, item: Item, status: Status) -> None:
        if status not in GOES_ON:
            with contextlib.suppress(OSError):  # one that is left is not taken up: its trial has its row
                (self.folder / f"{item.trial.trial_id}.safetensors").unlink(missing_ok=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # checkpoints are left
            self.folder.rmdir()


def _checkpoint_folder(store: Store) -> Path:
    """The folder of checkpoints: beside results that lie on this machine, else in the cache."""
    if isinstance(store.root, Path):
        return store.root / ".checkpoints"
    return cache_dir() / "checkpoints" / digest(store.root)[:16]


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP raises `Interrupted`, and running trials are ended. A second one ends this
    process at once. In a thread that is not the main one, which alone may handle signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: object) -> None:  # noqa: ARG001
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h")  # the live table hides the cursor, and a second Ctrl-C would leave it so
        came.append(number)
        raise Interrupted(number)

    came: list[int] = []
    before = {each: signal.signal(each, first) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        if came:  # during a call to Ray, which turned it into a plain one
            raise Interrupted(came[0]) from None
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _prepare(items: Sequence[Item], data_dir: Path | None, console: Console) -> None:
    """Decode each dataset once, before trials that share it start side by side."""
    from normbench.lab import data

    seen = set()
    for item in items:
        spec, test = item.trial.data, item.trial.stage == "final"
        key = (item.identity.data, spec.image_size)
        if key in seen:
            continue
        seen.add(key)
        source = data.locate(spec, data_dir, download=True, test=test)
        if source is not None:
            with console.status(f"preparing {spec.dataset}"):
                loaded = data.load(spec, source, item.identity.data)
            held = f", {len(loaded.validation.labels):,} held out" if loaded.validation else ""
            tested = f"{len(loaded.test.labels):,} test images" if loaded.test else "tuning sees no test images"
            console.print(
                f"{spec.dataset}: {len(loaded.train.labels):,} training images{held}, {tested}, "
                f"{loaded.image_size}x{loaded.image_size}x{loaded.channels}, {len(loaded.classes)} classes",
                style="dim",
                highlight=False,
                soft_wrap=True,
            )
