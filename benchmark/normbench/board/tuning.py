"""What tuning tried: from rows of candidates to sweeps. Pure functions, no input or output.

A sweep is all candidates that share everything but the tuned settings and the seed: one method, or one method in one
cell. It is read from the rows alone, so that it holds all that was ever tried for a suite and still is in the results,
with what it cost.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.spec.text import natural
from normbench.spec.trial import UNWRITTEN
from normbench.spec.tuning import Score, Settings, best, order, score, written

#: Columns that sweeps are made of.
SWEPT = [
    *("suite", "trial_id", "identity_parts", "spec", "norm", "stage", "status", "epoch"),
    *("validation_accuracy", "provenance", "wall_seconds", "train_seconds"),
]

#: What the star beside a tuned setting says, see `Sweep.ends_of`.
EDGE = "* the smallest or largest value that tuning tried: a better one may lie beyond"


@dataclass(frozen=True)
class Tried:
    """One setting of a sweep."""

    settings: Settings
    accuracy: float | None
    """Mean validation accuracy over the seeds; None unless every candidate ended well."""
    ends: tuple[tuple[str, int], ...]
    """How many candidates ended in which status."""
    epochs: int
    """Finished epochs of all its candidates."""
    trials: tuple[str, ...]
    chosen: bool
    """Whether final trials were trained with it; where there are none yet, whether the rule takes it."""

    @property
    def text(self) -> str:
        return written(self.settings)

    @property
    def display(self) -> str:
        """The accuracy in %, or why there is none."""
        return (
            f"{100 * self.accuracy:.2f}"
            if self.accuracy is not None
            else ", ".join(status.replace("_", " ") for status, _ in self.ends if status != "ok")
        )


@dataclass(frozen=True)
class Sweep:
    """The search of one method."""

    suite: str
    norm: str
    label: str
    """The method, and what tells its sweep from others of the suite: `bn · batch 64`."""
    keys: tuple[str, ...]
    """The tuned settings."""
    tried: tuple[Tried, ...]
    """By learning rate, then by the other settings."""
    held_out: float
    """Share of the training images that candidates were judged on."""
    seeds: int
    train_seconds: float
    wall_seconds: float
    cell: str
    """What its candidates have in common with the final trials that they stand for."""

    @property
    def chosen(self) -> Tried | None:
        """The choice; where an earlier one left final trials too, the better of them."""
        return max((t for t in self.tried if t.chosen), key=lambda t: t.accuracy or 0.0, default=None)

    @property
    def trials(self) -> int:
        return sum(len(t.trials) for t in self.tried)

    @property
    def epochs(self) -> int:
        return sum(t.epochs for t in self.tried)

    @property
    def at_the_edge(self) -> str:
        """`smallest lr` or `largest lr` where the choice is at an end of what was tried: a better one may lie
        beyond. Several are joined by commas.
        """
        return "" if self.chosen is None else ", ".join(f"{end} {k}" for k, end in self.ends_of(self.chosen.settings))

    def ends_of(self, settings: Settings) -> list[tuple[str, str]]:
        """Which of these settings are the `smallest` or the `largest` that was tried. Zero is no end: there is nothing
        below it.
        """
        found = []
        for key, value in settings:
            tried = {dict(t.settings)[key] for t in self.tried}
            numbers = {v for v in tried if isinstance(v, int | float)}
            if value in numbers and len(numbers) > 1:
                end = "smallest" if value == min(numbers) else "largest" if value == max(numbers) else ""
                found += [(key, end)] if end and value != 0 else []
        return found


class Choices:
    """Which settings of final trials were tuned, and where among those tried their values lie."""

    def __init__(self, sweeps: Iterable[Sweep]) -> None:
        self._sweeps: dict[tuple[str, tuple[str, ...]], dict[str, Sweep]] = {}
        for sweep in sweeps:
            self._sweeps.setdefault((sweep.suite, sweep.keys), {})[sweep.cell] = sweep

    def of(self, suites: Collection[str], spec: Mapping[str, Any]) -> dict[str, str]:
        """By key of `train`, of those settings of a final trial of these suites that were tuned: `smallest` or
        `largest` where the value is at an end of those tried, else nothing.
        """
        found: dict[str, str] = {}
        for (suite, keys), cells in self._sweeps.items():
            sweep = cells.get(_cell(spec, keys)) if suite in suites else None
            own = _settings(spec, keys)
            if sweep and any(t.settings == own for t in sweep.tried):
                found |= dict.fromkeys(keys, "") | dict(sweep.ends_of(own))
        return found


def sweeps(rows: Iterable[Mapping[str, Any]]) -> list[Sweep]:
    """The sweeps of all rows of stage `tuning`, ordered by suite and label; rows of final trials tell which settings
    are used.

    `rows` are as `normbench.store.store.Store.rows` gives them and may lack the long columns.
    """
    groups: dict[tuple[str, str], list[_Row]] = {}
    finals: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        spec = json.loads(row["spec"])
        if row["stage"] == "tuning":
            tuned = tuple(json.loads(row["provenance"] or "{}").get("tuned") or ("lr",))
            groups.setdefault(
                (row["suite"], _cell(spec, tuned) + json.dumps([tuned, spec["data"]["validation"]])), []
            ).append((row, spec, tuned))
        elif not json.loads(row["identity_parts"] or "{}").get("no_choice"):
            finals.setdefault(row["suite"], []).append(spec)
    made = []
    for (suite, _), found in groups.items():
        _, first, tuned = found[0]
        used = {_settings(s, tuned) for s in finals.get(suite, ()) if _cell(s, tuned) == _cell(first, tuned)}
        others = [_shared(several[0][1], several[0][2]) for (other, _), several in groups.items() if other == suite]
        made.append(_sweep(_label(_shared(first, tuned), others), found, used))
    return sorted(made, key=lambda s: (s.suite, natural(s.label)))


_Row = tuple[Mapping[str, Any], dict[str, Any], tuple[str, ...]]
"""A row of a candidate, its specification, and the settings that it was to decide."""


def _shared(spec: Mapping[str, Any], tuned: tuple[str, ...]) -> dict[str, Any]:
    """What all candidates of a sweep have in common."""
    return {k: v for k, v in spec.items() if k != "seed"} | {
        "train": {k: v for k, v in spec["train"].items() if k not in tuned},
        "tuned": list(tuned),
    }


def _settings(spec: Mapping[str, Any], keys: Sequence[str]) -> Settings:
    train = UNWRITTEN | spec["train"]
    return tuple((key, train[key]) for key in keys)


def _cell(spec: Mapping[str, Any], tuned: tuple[str, ...]) -> str:
    """What candidates have in common with the final trials that they stand for: all but how they are judged."""
    kept = {k: v for k, v in spec.items() if k not in {"seed", "stage", "attacks", "measures", "statistics"}}
    kept["data"] = {k: v for k, v in spec["data"].items() if k not in {"validation", "test_split", "test_examples"}}
    kept["train"] = {k: v for k, v in spec["train"].items() if k not in tuned}
    return json.dumps(kept, sort_keys=True)


def _sweep(label: str, found: Sequence[_Row], used: set[Settings]) -> Sweep:
    keys = found[0][2]
    by_settings: dict[Settings, list[Mapping[str, Any]]] = {}
    for row, spec, _ in found:
        by_settings.setdefault(_settings(spec, keys), []).append(row)
    scores: dict[Settings, Score] = {settings: score(settings, rows) for settings, rows in by_settings.items()}
    chosen = best(scores.values())
    used = used & set(by_settings) or ({chosen.settings} if chosen else set())
    tried = [
        Tried(
            settings=settings,
            accuracy=scores[settings].accuracy,
            ends=tuple(sorted(Counter(r["status"] for r in rows).items())),
            epochs=sum(r["epoch"] or 0 for r in rows),
            trials=tuple(sorted(r["trial_id"] for r in rows)),
            chosen=settings in used,
        )
        for settings, rows in by_settings.items()
    ]
    row, spec, _ = found[0]
    return Sweep(
        suite=row["suite"],
        norm=row["norm"],
        label=label,
        keys=keys,
        tried=tuple(sorted(tried, key=lambda t: order(t.settings))),
        held_out=spec["data"]["validation"],
        seeds=len({spec["seed"] for _, spec, _ in found}),
        train_seconds=math.fsum(row["train_seconds"] or 0.0 for row, _, _ in found),
        wall_seconds=math.fsum(row["wall_seconds"] or 0.0 for row, _, _ in found),
        cell=_cell(spec, keys),
    )


def _label(shared: Mapping[str, Any], all_of_suite: Sequence[Mapping[str, Any]]) -> str:
    """The method, and each part of the specification in which sweeps of this method differ."""
    same = [_flat(s) for s in all_of_suite if s["norm_label"] == shared["norm_label"]]
    own = _flat(shared)
    differing = [k for k in own if len({s.get(k) for s in same}) > 1]
    return " · ".join(
        [
            shared["norm_label"],
            *(f"{k.rpartition('.')[2].replace('_', ' ')} {own[k]}".replace('"', "") for k in differing),
        ]
    )


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {
            k: v
            for key, inner in value.items()
            for k, v in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: json.dumps(value)}
