"""Check every stored result against itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from normbench.spec.outcome import Status
from normbench.spec.trial import digest
from normbench.store import about, weights
from normbench.store.schema import of_identity, of_trial, trial_of
from normbench.store.store import ASIDE, Store, is_compact

#: Rows of a compact file that are turned into Python values at a time.
_AT_ONCE = 500


@dataclass(frozen=True)
class Finding:
    """What is wrong with one shard."""

    path: str
    problem: str


def verify(store: Store) -> tuple[int, list[Finding]]:
    """How many results contradict neither themselves nor their file, and what is wrong with the others.

    Beyond what reading checks (Parquet, schema version, checksum of the bytes): the row is of the trial that its name,
    folder and identity say, its flat columns are those of its specification, its accuracies are those of its stored
    bits, and its weights, where they lie beside it, are those that it names.
    """
    findings = []
    good = 0
    for suite in store.suites():
        for name in store.shards(suite):
            where = store.files.where(name)
            try:
                table = store.read(name)
            except FileNotFoundError:
                continue  # was compacted meanwhile
            if table is None:
                findings.append(Finding(where, store.problems[where]))
                continue
            if not is_compact(name) and table.num_rows != 1:
                findings.append(Finding(where, f"it holds {table.num_rows} rows; a shard holds one"))
                continue
            for start in range(0, table.num_rows, _AT_ONCE):
                for row in table.slice(start, _AT_ONCE).to_pylist():
                    problems = list(contradictions(row, name))
                    findings += [
                        Finding(f"{where} ({row['trial_id']})" if is_compact(name) else where, p) for p in problems
                    ]
                    good += not problems
        findings += [
            Finding(store.files.where(f"{suite}/{ASIDE}/{e.name}"), "was set aside")
            for e in store.entries(f"{suite}/{ASIDE}")
        ]
        findings += [Finding(store.files.where(name), problem) for name, problem in weights.damaged(store, suite)]
        about.read(store, suite)
        if problem := store.problems.get(where := store.files.where(f"{suite}/{about.FILE}")):
            findings.append(Finding(where, problem))
    return good, findings


def contradictions(row: dict[str, Any], name: str) -> Iterator[str]:
    """How a row contradicts itself, or the file `name` (relative to the results folder) where it lies."""
    suite, _, last = name.partition("/")
    try:
        trial = trial_of(row)
        parts = json.loads(row["identity_parts"])
        Status(row["status"])
    except (ValidationError, ValueError, TypeError) as error:
        yield f"its specification cannot be read: {' '.join(str(error).split())[:160]}"
        return
    if row["trial_id"] != trial.trial_id:
        yield f"its trial_id is {row['trial_id']}, its specification gives {trial.trial_id}"
    if not is_compact(name) and last != f"{row['trial_id']}.parquet":
        yield f"it should be called {row['trial_id']}.parquet"
    if row["suite"] != suite:
        yield f"it is of suite {row['suite']!r} but lies in {suite!r}"
    if row["identity"] != digest(parts)[:32] or parts.get("spec") != trial.trial_id:
        yield "its identity is not that of its parts"
    flat = {
        **{k: v for k, v in of_trial(trial).items() if k != "trial_id"},
        **{k: v for k, v in of_identity(parts).items() if not k.startswith("identity")},
        "norm": trial.norm_label,
        "seed": trial.seed,
        "batch_size": trial.batch_size,
        "model": trial.model.name,
        "dataset": trial.data.dataset,
        "lr": trial.train.lr,
        "stage": trial.stage,
    }
    yield from (f"its {k} is {row[k]!r}, its specification says {v!r}" for k, v in flat.items() if row[k] != v)
    tuning = trial.stage == "tuning"
    if row["status"] == Status.OK and row["validation_accuracy" if tuning else "clean_correct"] is None:
        yield f"it is ok but has no {'validation' if tuning else 'clean'} accuracy"
    if tuning and (row["clean_correct"] is not None or row["attacks"]):
        yield "it is a candidate of tuning but was shown test images"
    if row["clean_correct"] is None:
        return
    total = row["test_total"]
    correct = _bits(row["clean_outcomes"], total)
    if int(correct.sum()) != row["clean_correct"] or row["clean_accuracy"] != row["clean_correct"] / total:
        yield "its clean accuracy is not that of its stored outcomes"
    for attack in row["attacks"] or ():
        stood = _bits(attack["outcomes"], attack["total"])
        name = f"{attack['attack']} at {attack['size']:g}"
        if int(stood.sum()) != attack["correct"] or attack["accuracy"] != attack["correct"] / attack["total"]:
            yield f"the accuracy of {name} is not that of its stored outcomes"
        if attack["threat"] in {"linf", "l2", "l1"} and (attack["total"] != total or bool((stood & ~correct).any())):
            yield f"under {name} images are right that are wrong without an attack"


def _bits(packed: bytes | None, total: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    found = np.frombuffer(packed or b"", np.uint8)
    if len(found) * 8 < total:
        return np.zeros(total, bool)
    return np.unpackbits(found, count=total).astype(bool)
