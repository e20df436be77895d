"""Results of an older schema, brought to this one.

Version 2 added the columns `stage`, `measure_seconds` and `attempts`, and `Trial.stage`, so that ids and identities are
others: a row is given the ones that its trial has now. What was measured is copied as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from normbench.spec.trial import Trial, digest
from normbench.store.leases import ALL, Claims
from normbench.store.schema import SCHEMA, SCHEMA_VERSION, to_json
from normbench.store.store import Store, StoreError, is_sealed, shard_name, to_bytes, version_of

#: What a row of version 1 says about the columns that came later.
_SINCE_1 = {"stage": "final", "measure_seconds": "{}", "attempts": 1}


@dataclass
class Migrated:
    """What became of the files of older versions, by name."""

    moved: dict[str, str] = field(default_factory=dict)
    """Old name -> new name."""
    superseded: dict[str, str] = field(default_factory=dict)
    """Old name -> the newer result of the same trial that stays."""
    problems: dict[str, str] = field(default_factory=dict)
    """Files that were left as they are."""


def migrate(store: Store) -> Migrated:
    """Bring every shard of an older schema to this one; what is of this one already stays untouched, so it can be
    repeated.

    A new shard is written and read back before the old one goes. A shard that is damaged, or that is not of the trial
    that it says, stays and is named. Raises `ClaimError` while a run works on a suite.
    """
    done = Migrated()
    for suite in store.suites():
        with Claims(store.files, suite, "bench results migrate") as claims:
            claims.hold([ALL])
            for name in store.shards(suite):
                try:
                    _migrate_one(store, suite, name, done)
                except (
                    OSError,
                    pa.ArrowException,
                    ValidationError,
                    ValueError,
                    KeyError,
                    TypeError,
                    StoreError,
                ) as error:
                    done.problems[name] = " ".join(str(error).split())[:300]
    return done


def _migrate_one(store: Store, suite: str, name: str, done: Migrated) -> None:
    content = store.files.read(name)
    file = pq.ParquetFile(pa.BufferReader(content))
    version = version_of(file)
    if version == SCHEMA_VERSION:
        return
    if version != 1:
        raise StoreError(f"schema {version} is not one that this version can migrate (1)")
    if not is_sealed(content):
        raise StoreError("its checksum does not fit its content: it was damaged or changed after it was written")
    rows = file.read().to_pylist()
    if len(rows) != 1:
        raise StoreError(f"it holds {len(rows)} rows; a shard holds one")
    row = from_1(rows[0], suite)
    new = shard_name(suite, row["trial_id"])
    there = store.read(new) if new in store.shards(suite) else None
    if there is not None and there.column("started")[0].as_py() >= row["started"]:
        if there.to_pylist()[0] != row:
            done.superseded[name] = new
    else:
        table = pa.Table.from_pylist([row], schema=SCHEMA)
        store.put(new, to_bytes(table))
        kept = store.read(new)
        if kept is None or not kept.equals(table):
            raise StoreError(f"{store.files.where(new)} does not read back as it was written; the old shard stays")
    if name not in done.superseded:
        done.moved[name] = new
    store.drop(name)


def from_1(row: dict[str, Any], suite: str) -> dict[str, Any]:
    """A row of schema 1 as one of this schema. Raises `StoreError` where it is not of the trial and suite that it
    says.
    """
    spec = json.loads(row["spec"])
    parts = json.loads(row["identity_parts"])
    if (
        digest(spec)[:16] != row["trial_id"]
        or parts.get("spec") != row["trial_id"]
        or digest(parts)[:32] != row["identity"]
    ):
        raise StoreError("its trial_id and identity are not those of its specification: it was changed by other means")
    if row["suite"] != suite:
        raise StoreError(f"it is of suite {row['suite']!r} but lies in {suite!r}")
    trial = Trial.model_validate(spec)
    parts |= {"spec": trial.trial_id}
    known = {n: row.get(n) for n in SCHEMA.names}
    return (
        known
        | _SINCE_1
        | {
            "spec": to_json(trial.model_dump(mode="json")),
            "trial_id": trial.trial_id,
            "identity": digest(parts)[:32],
            "identity_parts": to_json(parts),
        }
    )
