"""What a suite still has to run: each planned trial is cached, stale or missing, with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.identity import Identity, identity
from benchmark.lab import data as datasets
from benchmark.store import BRIEF, Store
from benchmark.trial import DataSpec, Status, Trial


class State(StrEnum):
    CACHED = "cached"
    STALE = "stale"
    MISSING = "missing"


#: Ends that say nothing about the method; such a trial is run again by itself.
UNFINISHED = {Status.KILLED}
#: Ends that another try may change, run again on request (`--retry`).
RETRIABLE = {Status.ERROR, Status.OUT_OF_MEMORY, Status.TIMED_OUT, Status.KILLED}

#: Stored trials of one norm, seed and model that a missing one is compared with at most: a hint need not cost more than the plan.
_CANDIDATES = 200
_NONE = "not set"


@dataclass(frozen=True)
class Item:
    """A planned trial. `stored` is the row on disk (columns `store.BRIEF`), if any; `reasons` say why it is not cached."""

    trial: Trial
    identity: Identity
    state: State
    reasons: tuple[str, ...]
    stored: dict[str, Any] | None
    estimate: float | None
    """Seconds that it should take, from earlier trials; None when there is none to go by."""


@dataclass(frozen=True)
class Plan:
    suite: str
    items: tuple[Item, ...]

    def count(self, state: State) -> int:
        return sum(i.state is state for i in self.items)

    @property
    def todo(self) -> list[Item]:
        return [i for i in self.items if i.state is not State.CACHED]

    @property
    def estimate(self) -> float | None:
        """Seconds of trial time still to run, one trial after the other; None when no earlier trial tells."""
        known = [i.estimate for i in self.todo if i.estimate is not None]
        if not self.todo:
            return 0.0
        return sum(known) / len(known) * len(self.todo) if known else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "total": len(self.items),
            "cached": self.count(State.CACHED),
            "stale": self.count(State.STALE),
            "missing": self.count(State.MISSING),
            "estimate_seconds": self.estimate,
            "trials": [
                {
                    "trial_id": i.trial.trial_id,
                    "title": i.trial.title,
                    "state": i.state.value,
                    "reasons": list(i.reasons),
                    "status": i.stored["status"] if i.stored else None,
                    "estimate_seconds": i.estimate,
                }
                for i in self.items
            ],
        }


def make(
    suite: str,
    trials: Sequence[Trial],
    store: Store,
    data_dir: Path | None,
    *,
    retry: bool = False,
    download: bool = False,
    accept_versions: bool = False,
) -> Plan:
    """Compare the trials of a suite with what is stored. Raises `DataError` when a dataset cannot exist.

    retry: count failed trials as missing. download: fetch datasets that are not on this machine, so that their content is known.
    accept_versions: results of other versions of the libraries count.
    """
    rows = {r["trial_id"]: r for r in store.rows([suite], BRIEF)}
    fingerprints = Fingerprints(data_dir, download=download)
    paces, nearest = _Paces(rows.values()), _Nearest(rows.values())
    items = []
    for trial in trials:
        now = identity(trial, fingerprints.of(trial.data))
        state, reasons = _judge(trial, now, rows.get(trial.trial_id), nearest, retry=retry, accept_versions=accept_versions)
        items.append(Item(trial, now, state, tuple(reasons), rows.get(trial.trial_id), paces.estimate(trial)))
    return Plan(suite, tuple(items))


class Fingerprints:
    """Content fingerprints of datasets, each computed once."""

    def __init__(self, data_dir: Path | None, *, download: bool) -> None:
        self._data_dir, self._download = data_dir, download
        self._known: dict[tuple[Any, ...], str | None] = {}

    def of(self, spec: DataSpec) -> str | None:
        """None when the dataset is not on this machine and may not be fetched."""
        key = (spec.dataset, spec.train_split, spec.test_split, spec.image_column, spec.label_column)
        if key not in self._known:
            source = datasets.locate(spec, self._data_dir, download=self._download)
            self._known[key] = datasets.fingerprint(source) if source else None
        return self._known[key]


def _judge(trial: Trial, now: Identity, row: dict[str, Any] | None, nearest: _Nearest, *, retry: bool, accept_versions: bool) -> tuple[State, list[str]]:
    if row is None:
        return State.MISSING, [nearest.why(trial)]
    changes = now.changes_since(json.loads(row["identity_parts"]), accept_versions=accept_versions)
    if changes:
        return State.STALE, changes
    if row["status"] in UNFINISHED:
        return State.MISSING, [f"it was killed ({row['reason']})"]
    if retry and row["status"] in RETRIABLE:
        return State.MISSING, [f"it ended as {row['status']} and is to be tried again ({row['reason']})"]
    return State.CACHED, []


class _Nearest:
    """What the most similar stored trial did otherwise. Each stored specification is read once, and not before it is asked for."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._texts: dict[tuple[Any, ...], list[str]] = {}
        self._specs: dict[tuple[Any, ...], list[frozenset[tuple[str, str]]]] = {}
        for row in rows:
            self._texts.setdefault((row["norm"], row["seed"], row["model"]), []).append(row["spec"])

    def why(self, trial: Trial) -> str:
        key = (trial.norm_label, trial.seed, trial.model.name)
        if key not in self._specs:
            self._specs[key] = [frozenset(_flat(json.loads(t)).items()) for t in self._texts.get(key, [])[:_CANDIDATES]]
        spec = _flat(trial.model_dump(mode="json")) if self._specs[key] else {}
        own = frozenset(spec.items())
        other = dict(min(self._specs[key], key=lambda o: len(own ^ o), default=()))
        differing = sorted(k for k in {*spec, *other} if spec.get(k) != other.get(k))
        if not 0 < len(differing) <= 3:
            return "it was never run"
        return f"it was never run with these settings: {'; '.join(f'{k} is {spec.get(k, _NONE)}, stored with {other.get(k, _NONE)}' for k in differing)}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: json.dumps(value)} if not (isinstance(value, list) and value and isinstance(value[0], dict)) else _flat(dict(enumerate(value)), prefix)


class _Paces:
    """Seconds a trial, learnt from rows: scaled by epochs, among trials of the same model, width and norm, else of the same model and width."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        by: dict[tuple[Any, ...], list[float]] = {}
        for row in rows:
            if row["status"] != Status.OK or not row["wall_seconds"]:
                continue
            pace = row["wall_seconds"] / row["epochs"]
            for key in ((row["dataset"], row["model"], row["width"], row["norm"]), (row["dataset"], row["model"], row["width"])):
                by.setdefault(key, []).append(pace)
        self._by = {key: median(paces) for key, paces in by.items()}

    def estimate(self, trial: Trial) -> float | None:
        shape = (trial.data.dataset, trial.model.name, trial.model.width)
        for key in ((*shape, trial.norm_label), shape):
            if key in self._by:
                return self._by[key] * trial.train.epochs
        return None
