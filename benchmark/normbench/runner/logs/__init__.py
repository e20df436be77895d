"""Trials in the loggers that people have: TensorBoard, Weights & Biases, MLflow.

A trial goes there when its row is stored, with its settings, its curves and its final numbers: nothing that the row
does not hold. A thread of its own does it, so that no trial waits for a server. A logger that fails is left out from
then on, and said so; results do not depend on it.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

from normbench.runner.logs.entry import Entry, Log
from normbench.spec.loggers import LOGGERS
from normbench.spec.outcome import Outcome
from normbench.spec.text import said
from normbench.spec.trial import Trial

__all__ = ["Logs"]

#: Seconds that loggers have to end when a run is broken off.
GRACE = 10.0


class Logs(contextlib.AbstractContextManager["Logs"]):
    """The loggers of a run. names: of `LOGGERS`; those whose package is missing are left out, which a plan says. note:
    shows a line to people.
    """

    def __init__(self, suite: str, names: Iterable[str], note: Callable[[str], None]) -> None:
        self._suite, self._note = suite, note
        self._names = [name for name in dict.fromkeys(names) if not LOGGERS[name].lacks]
        self._entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="loggers", daemon=True)
        if self._names:
            self._thread.start()

    def trial(self, trial: Trial, outcome: Outcome) -> None:
        """Hand a trial over to the loggers."""
        if self._names:
            self._entries.put(Entry.of(self._suite, trial, outcome))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is written; when the run is broken off, not for long."""
        if not self._names:
            return
        self._entries.put(None)
        self._thread.join(GRACE if error else None)

    def _write(self) -> None:
        logs: dict[str, Log] = {}
        waiting = list(self._names)  # loggers are opened when there is something for them
        while (entry := self._entries.get()) is not None:
            while waiting:
                name = waiting.pop(0)
                self._guarded(name, logs, partial(self._open, name, logs))
            for name, log in list(logs.items()):
                self._guarded(name, logs, partial(log.trial, entry))

    def _open(self, name: str, logs: dict[str, Log]) -> None:
        logs[name] = log = importlib.import_module(f"{__name__}.to_{name}").open_log(self._suite)
        if text := log.greeting:
            self._note(f"log: {name}: {text}")

    def _guarded(self, name: str, logs: dict[str, Log], action: Callable[[], None]) -> None:
        """Whatever a logger raises ends this logger alone."""
        try:
            action()
        except Exception as error:
            logs.pop(name, None)
            self._note(f"log: {name} is left out from here on: {type(error).__name__}: {said(error)[:300]}")
