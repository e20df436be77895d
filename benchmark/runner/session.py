"""`bench run`: plan a suite, run what is not cached, store each outcome as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark.plan import Item, Plan, State
from benchmark.provenance import provenance
from benchmark.runner.progress import Display, display, duration
from benchmark.runner.sharing import shares
from benchmark.runner.tune import Events, Options, execute
from benchmark.store import Store, StoreError
from benchmark.trial import Limits, Outcome, Status

#: Ends that make `bench run` exit non-zero: they say nothing about a method.
BROKEN = {Status.ERROR, Status.KILLED}


class _CannotStoreError(BaseException):
    """A result could not be written. No `Exception`, which Tune takes for a failure of the trial, and goes on training."""

    def __init__(self, error: StoreError) -> None:
        self.error = error


@dataclass(frozen=True)
class Summary:
    """How the trials of one run ended, in the order in which they did."""

    ended: tuple[tuple[Item, Status, str], ...]

    @property
    def counts(self) -> Counter[Status]:
        return Counter(status for _, status, _ in self.ended)

    @property
    def broken(self) -> list[tuple[Item, Status, str]]:
        return [e for e in self.ended if e[1] in BROKEN]


def announce(plan: Plan) -> str:
    """One line about what a run will do."""
    counts = ", ".join(f"{plan.count(s)} {s.value}" for s in State if plan.count(s))
    estimate = f"; about {duration(plan.estimate)} of trial time" if plan.todo and plan.estimate is not None else ""
    return f"{plan.suite}: {len(plan.items)} trials ({counts}){estimate}"


def run(plan: Plan, store: Store, limits: Limits, *, console: Console, data_dir: Path | None, jobs: int | None, address: str | None) -> Summary:
    """Run everything in `plan.todo`. Each outcome is on disk before the next event is looked at.

    Raises `KeyboardInterrupt`, and `StoreError` at the first outcome that cannot be written.
    """
    todo = plan.todo
    if not todo:
        return Summary(())
    ended: list[tuple[Item, Status, str]] = []
    with closing(shares(store, plan.suite, todo, lambda text: console.print(text, highlight=False, soft_wrap=True))) as parts:
        for mine in parts:
            _prepare(mine, data_dir, console)
            with display(console, len(mine)) as shown:

                def done(item: Item, outcome: Outcome, shown: Display = shown) -> None:
                    try:
                        store.write(plan.suite, item.trial, item.identity.to_dict(), outcome)
                    except StoreError as error:
                        raise _CannotStoreError(error) from error
                    ended.append((item, outcome.status, outcome.reason))
                    shown.done(item, outcome)

                options = Options(data_dir=data_dir, provenance=provenance(), jobs=jobs, address=address)
                try:
                    execute(mine, limits, options, Events(shown.started, shown.progress, done, shown.placed))
                except _CannotStoreError as stop:
                    raise stop.error from None
    return Summary(tuple(ended))


def _prepare(items: Sequence[Item], data_dir: Path | None, console: Console) -> None:
    """Decode each dataset once here, before trials that share it start side by side."""
    from benchmark.lab import data

    seen = set()
    for item in items:
        spec = item.trial.data
        key = (item.identity.data, spec.image_size)
        if key in seen:
            continue
        seen.add(key)
        source = data.locate(spec, data_dir, download=True)
        if source is not None:
            with console.status(f"preparing {spec.dataset}"):
                loaded = data.load(spec, source, item.identity.data)
            held = f", {len(loaded.validation.labels):,} held out" if loaded.validation else ""
            console.print(
                f"[dim]{spec.dataset}: {len(loaded.train.labels):,} training images{held}, {len(loaded.test.labels):,} test images, "
                f"{loaded.image_size}x{loaded.image_size}x{loaded.channels}, {len(loaded.classes)} classes[/dim]",
                highlight=False,
                soft_wrap=True,
            )
