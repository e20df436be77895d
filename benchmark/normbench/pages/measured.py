"""What was measured of a whole network before and after its training, for the page of a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from normbench.board.stats import Interval, student
from normbench.board.words import capital, quantity

#: What a quantity's standard error is called.
ERROR = ".error"


@dataclass(frozen=True)
class Measured:
    """One quantity: its first and its last reading (None where there is one alone), as text."""

    quantity: str
    first: str | None
    last: str

    @property
    def words(self) -> str:
        return capital(quantity(self.quantity))


def measured(row: Mapping[str, Any]) -> list[Measured]:
    """Quantities of the whole network by the trial's measures, by name; without those sampled at coordinates.

    One that was estimated from random vectors, and has its standard error beside it, stands with its 95 % interval.
    """
    params = {m["name"]: m["params"] for m in json.loads(row["spec"])["measures"]}
    readings: dict[str, dict[int, float]] = {}
    for r in row["curves"] or ():
        if not r["layer"] and r["value"] is not None and "@" not in r["measure"]:
            readings.setdefault(r["measure"], {})[r["step"]] = r["value"]
    found = []
    for key, by_step in sorted(readings.items()):
        own = params.get(key.partition(".")[0])
        if own is None or (key.endswith(ERROR) and key.removesuffix(ERROR) in readings):
            continue
        errors = readings.get(key + ERROR, {})
        texts = [_text(v, interval(v, errors.get(step), own)) for step, v in sorted(by_step.items())]
        found.append(Measured(key, texts[0] if len(texts) > 1 else None, texts[-1]))
    return found


def interval(value: float, error: float | None, params: Mapping[str, Any]) -> Interval | None:
    """Of an estimate from `vectors` random vectors, with Student's t: from few of them, the standard error by itself is
    far too short. None where it has no error.
    """
    vectors = params.get("vectors", 0)
    return None if error is None or vectors < 2 else student(value, error, vectors - 1, "random vectors")


def _text(value: float, interval: Interval | None) -> str:
    return f"{value:.4g}" if interval is None else f"{value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"
