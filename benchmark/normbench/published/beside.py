"""Our own numbers beside printed ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from normbench.board import Board, Entry, Interval, Run, t_interval
from normbench.paths import shipped
from normbench.published.tables import TABLES, Printed, Row, Table
from normbench.suite import expand, load, searches

NOT_RUN = "not run"


@dataclass(frozen=True)
class Own:
    """The mean over seeds, in %; the 95 % t-interval of it, None where there are too few seeds for one."""

    value: float
    interval: Interval | None
    trials: tuple[str, ...]

    @property
    def text(self) -> str:
        """`92.58 [92.31, 92.85]`, with the number of seeds."""
        found = f"{self.value:.2f}"
        if self.interval:
            found += f" [{self.interval.low:.2f}, {self.interval.high:.2f}]"
        return f"{found}, {len(self.trials)} {'seed' if len(self.trials) == 1 else 'seeds'}"


@dataclass(frozen=True)
class Line:
    """A printed number and our own. status: why there is none of our own; empty where there is."""

    row: Row
    printed: Printed
    own: Own | None
    status: str = ""
    device: str = ""
    """What computed our own."""

    @property
    def here(self) -> str:
        return self.own.text if self.own else self.status

    @property
    def difference(self) -> float | None:
        """Our own less the printed one, in points; 0 within a printed range, else from its nearer end. None where one
        of both is missing.
        """
        if self.own is None or self.printed.value is None:
            return None
        low = self.printed.value
        high = low if self.printed.most is None else self.printed.most
        return self.own.value - min(max(self.own.value, low), high)

    @property
    def difference_text(self) -> str:
        """`+0.12 [-0.20, +0.44]`; the interval is that of our own mean alone."""
        apart = self.difference
        if apart is None or self.own is None:
            return "–"
        if self.printed.most is not None and apart == 0:
            return "within"
        text = f"{apart:+.2f}"
        if self.own.interval:
            low, high = (apart + end - self.own.value for end in (self.own.interval.low, self.own.interval.high))
            text += f" [{low:+.2f}, {high:+.2f}]"
        return text

    def plain(self) -> dict[str, Any]:
        """As JSON values; accuracies in %."""
        interval = self.own.interval if self.own else None
        return {
            "model": self.row.model,
            "norm": self.row.norm,
            "number": self.printed.what,
            "printed": self.printed.value,
            "printed_most": self.printed.most,
            "printed_spread": self.printed.spread,
            "own": self.own.value if self.own else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "seeds": len(self.own.trials) if self.own else 0,
            "trials": list(self.own.trials) if self.own else [],
            "difference": self.difference,
            "status": self.status,
            "device": self.device,
        }


@dataclass(frozen=True)
class Beside:
    """A printed table with our own numbers in every line."""

    table: Table
    lines: tuple[Line, ...]

    @property
    def run(self) -> int:
        """How many lines have a number of our own."""
        return sum(line.own is not None for line in self.lines)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        t = self.table
        about = {k: getattr(t, k) for k in ("name", "title", "source", "address", "suite", "setting", "spread")}
        return about | {"differs": list(t.differs), "rows": [line.plain() for line in self.lines]}


def beside(boards: Iterable[Board], tables: Sequence[Table] = TABLES) -> list[Beside]:
    """Every table with what the boards have of it. Only trials count that are those of its suite as it ships, tuned
    settings aside: what was run with other settings is another table.
    """
    found: dict[str, list[tuple[Board, Entry]]] = {}
    for board in boards:
        for entry in board.entries:
            for suite in {run.suite for run in entry.runs}:
                found.setdefault(suite, []).append((board, entry))
    return [Beside(t, tuple(_lines(t, found.get(t.suite, ())))) for t in tables]


def _lines(table: Table, found: Sequence[tuple[Board, Entry]]) -> Iterable[Line]:
    tuned, planned = _planned(table.suite) if found else ((), frozenset[str]())
    own = [(board, entry) for board, entry in found if _key(entry.spec, tuned) in planned]
    for row in table.rows:
        fitting = [(b, e) for b, e in own if (b.model, e.norm) == (row.model, row.norm)]
        # Boards are kept apart by device and precision; the one with the most finished trials speaks.
        board, entry = max(fitting, key=lambda pair: sum(r.ok for r in pair[1].runs), default=(None, None))
        for printed in row.numbers:
            yield _line(row, printed, board, entry)


def _line(row: Row, printed: Printed, board: Board | None, entry: Entry | None) -> Line:
    if not printed.metric:
        return Line(row, printed, None, "not part of this benchmark")
    if board is None or entry is None:
        return Line(row, printed, None, NOT_RUN)
    values = {r.trial_id: v for r in entry.runs if r.ok and (v := _value(r, printed.metric)) is not None}
    if not values:
        return Line(row, printed, None, entry.status or "not measured", board.device_class)
    mean = math.fsum(values.values()) / len(values)
    own = Own(mean, t_interval(list(values.values())), tuple(values))
    return Line(row, printed, own, entry.status, board.device_class)


def _value(run: Run, metric: str) -> float | None:
    """The mean of the metrics that fit, in %."""
    fitting = [v for key, v in run.values.items() if re.fullmatch(metric, key)]
    return 100 * math.fsum(fitting) / len(fitting) if fitting else None


@cache
def _planned(name: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The settings that a suite tunes, and the keys of its final trials."""
    suite = load(shipped("suites") / f"{name}.yaml")
    tuned = tuple(suite.tune.settings()) if suite.tune else ()
    finals = [t for s in searches(suite) for _, t in s.finals] if suite.tune else expand(suite)
    return tuned, frozenset(_key(t.model_dump(mode="json"), tuned) for t in finals)


def _key(spec: Mapping[str, Any], tuned: Sequence[str]) -> str:
    """A specification as text, without its seed and what was tuned."""
    train = {k: v for k, v in spec["train"].items() if k not in tuned}
    return json.dumps({k: v for k, v in spec.items() if k != "seed"} | {"train": train}, sort_keys=True)
