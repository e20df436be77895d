"""What a person sees while trials run: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from normbench.plan.plan import Item
from normbench.runner.fitted import Column, Fitted, number
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial

_COLOURS = {Status.OK: "green", Status.DIVERGED: "yellow", Status.STOPPED: "dim"}
#: Between the parts of a trial's title.
SEPARATOR = " · "
#: Columns of the live table; the last of them go where the terminal is narrow.
NUMBERS = ("epoch", "loss", "accuracy", "since", "images/s")
_MARKS = {Status.OK: "✓", Status.STOPPED: "■"}


class Display(Protocol):
    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def placed(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def again(self, item: Item, text: str) -> None: ...
    def started(self, item: Item) -> None: ...
    def progress(self, item: Item, progress: dict[str, Any]) -> None: ...
    def done(self, item: Item, outcome: Outcome) -> None: ...


def display(console: Console, items: Sequence[Item]) -> Display:
    """The display that fits where the output goes."""
    return LiveTable(console, items) if console.is_terminal else Lines(console, items)


class Names:
    """What trials are called beside each other: what all of them share is said once."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        parts = [trial.title.split(SEPARATOR) for trial in trials]
        shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
        self.shared = SEPARATOR.join(part for part in parts[0] if part in shared) if parts else ""
        self._own = {
            trial.trial_id: SEPARATOR.join(part for part in own if part not in shared) or trial.title
            for trial, own in zip(trials, parts, strict=True)
        }

    def of(self, item: Item) -> str:
        return self._own.get(item.trial.trial_id, item.trial.title)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def result_line(outcome: Outcome) -> str:
    """`ok: clean 97.2 %, bim 8/255 31.0 %` or `diverged: reason`."""
    if outcome.status is not Status.OK:
        return f"{outcome.status.value}: {outcome.reason}"
    from normbench.spec.robustness import apart
    from normbench.spec.text import show

    parts = [f"clean {outcome.clean_accuracy:.1%}"] if outcome.clean_accuracy is not None else []
    parts += (
        [f"validation {outcome.validation_accuracy:.1%}"]
        if outcome.clean_accuracy is None and outcome.validation_accuracy is not None
        else []
    )
    last = {a.attack: a for a in outcome.attacks}
    own = [a for a in last.values() if not apart(a.attack)[1]]
    parts += [f"{a.attack.partition('[')[0]} {show(a.size)} {a.accuracy:.1%}" for a in own]
    return f"ok: {', '.join(parts)}"


class _Pace:
    """How many trials are done, and when the rest will be."""

    def __init__(self, total: int) -> None:
        self.total, self.counts, self.began = total, Counter[Status](), time.monotonic()

    @property
    def finished(self) -> int:
        return sum(self.counts.values())

    def left(self) -> str:
        if not self.finished:
            return ""
        return (
            f", about {duration((time.monotonic() - self.began) / self.finished * (self.total - self.finished))} left"
        )


class Lines:
    """Plain lines: one for each finished trial."""

    def __init__(self, console: Console, items: Sequence[Item]) -> None:
        self._console, self._pace = console, _Pace(len(items))
        self._names = Names([item.trial for item in items])

    def __enter__(self) -> Lines:
        if self._names.shared:
            self._print(f"all: {self._names.shared}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def placed(self, text: str) -> None:
        self._pace.began = time.monotonic()
        self._print(text)

    def note(self, text: str) -> None:
        self._print(text)

    def again(self, item: Item, text: str) -> None:
        self.note(f"{self._names.of(item)}: {text}")

    def started(self, item: Item) -> None:
        return None

    def progress(self, item: Item, progress: dict[str, Any]) -> None:
        return None

    def done(self, item: Item, outcome: Outcome) -> None:
        self._pace.counts[outcome.status] += 1
        pace = self._pace
        self._print(
            f"[{pace.finished}/{pace.total}] {self._names.of(item)}: {result_line(outcome)} "
            f"({duration(outcome.wall_seconds)}{pace.left()})"
        )

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class LiveTable:
    """A bar over all trials and a row for each running one; finished ones scroll away above."""

    def __init__(self, console: Console, items: Sequence[Item]) -> None:
        self._console, self._pace = console, _Pace(len(items))
        self._names = Names([item.trial for item in items])
        self._running: dict[str, tuple[Item, dict[str, Any], float]] = {}
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def placed(self, text: str) -> None:
        self._pace.began = time.monotonic()
        self.note(text)

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def again(self, item: Item, text: str) -> None:
        self._running.pop(item.trial.trial_id, None)
        self.note(f"{self._names.of(item)}: {text}")

    def started(self, item: Item) -> None:
        self._running[item.trial.trial_id] = (item, {}, time.monotonic())

    def progress(self, item: Item, progress: dict[str, Any]) -> None:
        since = self._running.get(item.trial.trial_id, (item, {}, time.monotonic()))[2]
        self._running[item.trial.trial_id] = (item, progress, since)

    def done(self, item: Item, outcome: Outcome) -> None:
        self._running.pop(item.trial.trial_id, None)
        self._pace.counts[outcome.status] += 1
        colour = _COLOURS.get(outcome.status, "red")
        mark = _MARKS.get(outcome.status, "✗")
        self._console.print(
            Text.assemble(
                (f"{mark} ", colour),
                self._names.of(item),
                ("  " + result_line(outcome), "dim"),
                (f"  {duration(outcome.wall_seconds)}", "dim"),
            )
        )

    def _render(self) -> Group:
        pace = self._pace
        failed = pace.finished - pace.counts[Status.OK] - pace.counts[Status.STOPPED]
        head = Table.grid(padding=(0, 1))
        counts = (
            f"{pace.finished}/{pace.total} done, {len(self._running)} running"
            + (f", {failed} not ok" if failed else "")
            + pace.left()
        )
        head.add_row(ProgressBar(total=pace.total, completed=pace.finished, width=30), Text(counts))
        table = Fitted([Column("running", key=True), Column("phase"), *map(number, NUMBERS)], drop=True)
        for item, at, since in self._running.values():
            since_text = duration(time.monotonic() - since)
            cells = (
                [
                    at["phase"],
                    f"{at['epoch']:.1f}/{at['epochs']}",
                    f"{at['loss']:.3f}",
                    f"{at['accuracy']:.1%}",
                    since_text,
                    f"{at['images_per_second']:,.0f}",
                ]
                if at
                else ["starting", "", "", "", since_text, ""]
            )
            table.add_row(self._names.of(item), *cells)
        above = [Text(f"all: {self._names.shared}", style="dim")] if self._names.shared else []
        return Group(*above, head, table) if self._running else Group(*above, head)
