"""What weight decay does to each method: the same method at two weight decays, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from normbench.board import Board, Comparison, Entry, Metric, Pair
from normbench.studies._judged import Judged, judged
from normbench.studies._stats import Estimate, together
from normbench.studies.base import Cell, Record, Row, Table, points

NORM = "weight-norm.raw"


@dataclass(frozen=True)
class Unit:
    """One method at one weight decay: means over its seeds."""

    entry: Entry
    records: tuple[Record, ...]
    method: str
    """Equal for entries that differ in their weight decay alone."""
    by_seed: Mapping[int, float]
    """Vulnerability: the share of the rightly classified test images that the attack turns."""
    sizes: Mapping[str, float]
    """log2 of what may be tied to it: growth, norm, effective learning rate."""

    @property
    def vulnerability(self) -> float:
        return mean(list(self.by_seed.values()))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Effect:
    """A method at one weight decay less the same at its smallest; each kind is judged at once over all methods."""

    unit: Unit
    smallest: Unit
    clean: Comparison | None
    robust: Comparison | None
    grown: Comparison | None
    vulnerable: Comparison

    @property
    def label(self) -> str:
        return f"{self.unit.entry.norm}, wd {_decay(self.unit):g}"


def effects_of(board: Board, units: Sequence[Unit], robust: Metric, clean: Metric) -> list[Effect]:
    """Each method at each weight decay against its smallest, seed by seed."""
    growth = next((m for m in board.of("weight-norm") if m.key == f"growth:{NORM}"), None)
    against = [
        (unit, own[0])
        for method in dict.fromkeys(u.method for u in units)
        if (own := sorted((u for u in units if u.method == method), key=_decay))
        for unit in own[1:]
    ]
    columns = [
        together(m, [_pairs(a.entry, b.entry, m) for a, b in against]) if m else [None] * len(against)
        for m in (clean, robust, growth)
    ]
    vulnerable = together(robust, [_turned(a, b) for a, b in against])
    return [Effect(*pair, *made) for pair, *made in zip(against, *columns, vulnerable, strict=True)]


def effects_table(effects: Sequence[Effect], robust: Metric) -> Table | None:
    rows: list[Row] = []
    for effect in effects:
        a, b = effect.unit, effect.smallest
        trials = tuple(r.run.trial_id for r in a.records)
        shown = [points(_estimate(c)) for c in (effect.clean, effect.robust, effect.vulnerable)]
        growing = _estimate(effect.grown)
        what = f"wd {_decay(a):g} less {_decay(b):g}"
        rows.append((Cell(a.entry.norm, "", trials), what, *shown, growing.text(sign=True) if growing else "–"))
    head = ("Method", "Difference", "Clean, points", f"{robust.title}, points", "Vulnerability, points", "Growth, ×")
    caption = "Mean over seeds of the difference with the same seed; intervals are for all methods of a column at once."
    return (
        Table("What weight decay does to each method", caption, head, tuple(rows), frozenset({2, 3, 4, 5}))
        if rows
        else None
    )


def _decay(unit: Unit) -> float:
    return float(unit.entry.spec["train"]["weight_decay"])


def _estimate(made: Comparison | None) -> Estimate | None:
    return None if made is None or made.mean is None else Estimate.of(made.mean, made.interval)


def _pairs(a: Entry, b: Entry, metric: Metric) -> list[Pair]:
    values = [{p.seed: p.value for p in e.cells[metric.key].points} if metric.key in e.cells else {} for e in (a, b)]
    return [Pair(s, values[0][s], values[1][s]) for s in sorted(values[0].keys() & values[1].keys())]


def _turned(a: Unit, b: Unit) -> list[Pair]:
    """Vulnerability of both over the seeds that both have."""
    return [Pair(s, a.by_seed[s], b.by_seed[s]) for s in sorted(a.by_seed.keys() & b.by_seed.keys())]


def decayed(effects: Sequence[Effect]) -> Iterable[Judged]:
    for e in effects:
        yield judged("More weight decay makes a network less vulnerable", e.label, "points", e.vulnerable, turned=True)
    for e in effects:
        if e.grown is not None:
            finding = "With more weight decay the weights grow less"
            yield judged(finding, e.label, "difference of growth", e.grown, turned=True)
