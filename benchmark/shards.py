"""Care of a results folder: check every shard against itself, pick some out, bring two folders together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from benchmark.errors import BenchError
from benchmark.store import Store, trial_of, write_atomically
from benchmark.trial import Status, digest
from benchmark.trust import marks


@dataclass(frozen=True)
class Finding:
    """What is wrong with one shard."""

    path: str
    problem: str


def verify(store: Store) -> tuple[int, list[Finding]]:
    """How many shards hold together, and what is wrong with the others.

    Beyond what reading checks (Parquet, schema version, checksum of the bytes): the row is of the trial that its name, folder and identity say, its flat
    columns are those of its specification, and its accuracies are those of its stored bits.
    """
    findings = []
    good = 0
    for suite in store.suites():
        for path in sorted((store.root / suite).glob("*.parquet")):
            row = store.row(path)
            problems = [store.problems.get(str(path), "cannot be read")] if row is None else list(contradictions(row, suite, path))
            findings += [Finding(str(path), p) for p in problems]
            good += not problems
    return good, findings


def contradictions(row: dict[str, Any], suite: str, path: Path) -> Iterator[str]:
    """In what the row of a shard contradicts itself or the place where it lies."""
    try:
        trial = trial_of(row)
        parts = json.loads(row["identity_parts"])
        Status(row["status"])
    except (ValidationError, ValueError, TypeError) as error:
        yield f"its specification cannot be read: {' '.join(str(error).split())[:160]}"
        return
    if row["trial_id"] != trial.trial_id:
        yield f"its trial_id is {row['trial_id']}, its specification gives {trial.trial_id}"
    if path.stem != row["trial_id"]:
        yield f"it should be called {row['trial_id']}.parquet"
    if row["suite"] != suite:
        yield f"it is of suite {row['suite']!r} but lies in {suite!r}"
    if row["identity"] != digest(parts)[:32] or parts.get("spec") != trial.trial_id:
        yield "its identity is not that of its parts"
    flat = {
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
    right = _bits(row["clean_outcomes"], total)
    if int(right.sum()) != row["clean_correct"] or row["clean_accuracy"] != row["clean_correct"] / total:
        yield "its clean accuracy is not that of its stored outcomes"
    for attack in row["attacks"] or ():
        stood = _bits(attack["outcomes"], attack["total"])
        name = f"{attack['attack']} at {attack['size']:g}"
        if int(stood.sum()) != attack["correct"] or attack["accuracy"] != attack["correct"] / attack["total"]:
            yield f"the accuracy of {name} is not that of its stored outcomes"
        if attack["threat"] in {"linf", "l2", "l1"} and (attack["total"] != total or bool((stood & ~right).any())):
            yield f"under {name} images are right that are wrong without an attack"


def _bits(packed: bytes | None, total: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    found = np.frombuffer(packed or b"", np.uint8)
    if len(found) * 8 < total:
        return np.zeros(total, bool)
    return np.unpackbits(found, count=total).astype(bool)


def export(store: Store, target: Path, *, norms: Sequence[str] = (), suites: Sequence[str] = ()) -> list[Path]:
    """Copy the shards of the given methods (labels, or bare method names) and suites to another folder: what a pull request adds.

    Raises `BenchError` when none fits.
    """
    chosen = []
    for row in store.rows(suites or None, ["suite", "trial_id", "norm"]):
        parts = [p.partition("[")[0] for p in row["norm"].split("+")]
        if not norms or row["norm"] in norms or any(p in norms for p in parts):
            chosen.append(store.path(row["suite"], row["trial_id"]))
    if not chosen:
        raise BenchError(f"nothing to export: {store.root} has no results of {', '.join([*norms, *suites]) or 'any suite'}")
    copied = []
    for path in chosen:
        copy = target / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copied.append(copy)
    return copied


def merge(source: Store, target: Store) -> dict[str, int]:
    """Bring the readable shards of `source` into `target`. Where both have a trial, the one that started later stays. Marks come along where they are
    about a shard that `target` then has. Returns counts."""
    counts = {"added": 0, "replaced": 0, "kept": 0, "marks": 0}
    here = {(r["suite"], r["trial_id"]): r["started"] for r in target.rows(columns=["suite", "trial_id", "started"])}
    for row in source.rows(columns=["suite", "trial_id", "started"]):
        key = (row["suite"], row["trial_id"])
        if key in here and here[key] >= row["started"]:
            counts["kept"] += 1
            continue
        write_atomically(target.path(*key), source.path(*key).read_bytes())
        counts["replaced" if key in here else "added"] += 1
    for folder in sorted(p.parent for p in source.root.glob(f"*/{marks.FILE}")):
        found = [m for m in marks.read(folder)[0] if (path := target.path(folder.name, m.trial_id)).is_file() and m.shard == marks.fingerprint(path)]
        counts["marks"] += marks.add(target.root / folder.name, found)
    return counts
