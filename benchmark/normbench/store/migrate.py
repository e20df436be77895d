"""Bring results of an older schema to this one. What was measured is copied as it is.

Version 2 added the columns `stage`, `measure_seconds` and `attempts`. It added `Trial.stage` too, so trials have other
ids.

Version 3 added the columns of `of_trial` and `of_identity`, a digest of each column, and a digest of source code that
is the same under every version of Python. Modules got other names. `before_3.json` holds both digests of the last code
of version 2, which is the first of version 3. A row of that code gets the new digests. A row of older code keeps its
own, and stays stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from normbench.spec.plugins import PluginError
from normbench.spec.trial import Trial, digest
from normbench.store import marks
from normbench.store.leases import ALL, Leases
from normbench.store.schema import SCHEMA, SCHEMA_VERSION, of_identity, of_trial, to_json
from normbench.store.store import Store, StoreError, compact_name, fingerprint_of, shard_name, to_bytes, version_of

#: What a row of version 1 says about the columns that came later.
_SINCE_1 = {"stage": "final", "measure_seconds": "{}", "attempts": 1}
#: The key under which files of versions 1 and 2 hold the SHA-256 of their own bytes, computed with zeros in its place.
_SEAL_KEY = b"normbench.sha256"
_NO_SEAL = b"0" * 64


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
    """Bring every shard of an older schema to this one. Shards of this one stay untouched, so this can be repeated.

    A new shard is written and read back before the old one goes. A shard that is damaged, or that is not of the trial
    that it says, stays and is named. Raises `LeaseError` while a run works on a suite.
    """
    done = Migrated()
    for suite in store.suites():
        with Leases(store.files, suite, "bench results migrate") as leases:
            leases.hold([ALL])
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
    if version not in (1, 2):
        raise StoreError(f"schema {version} is not one that this version can migrate (1, 2)")
    if not _is_sealed(content):
        raise StoreError("its checksum does not fit its content: it was damaged or changed after it was written")
    moved = [_now(row, suite, version) for row in file.read().to_pylist()]
    if len(moved) == 1:
        _replace(store, suite, name, content, moved[0], done)
        return
    if version == 1:
        raise StoreError(f"it holds {len(moved)} rows; a shard holds one")
    table = pa.Table.from_pylist(sorted(moved, key=lambda row: row["trial_id"]), schema=SCHEMA)
    new = to_bytes(table)
    target = f"{suite}/{compact_name(new)}"
    _put(store, target, table)
    done.moved[name] = target
    store.drop(name)


def _replace(store: Store, suite: str, name: str, old: bytes, row: dict[str, Any], done: Migrated) -> None:
    """Write a shard of one row and its marks, then remove the old shard. A later result of the same trial stays."""
    new = shard_name(suite, row["trial_id"])
    there = store.read(new) if new != name and new in store.shards(suite) else None
    if there is not None and there.column("started")[0].as_py() >= row["started"]:
        if there.to_pylist()[0] != row:
            done.superseded[name] = new
    else:
        _put(store, new, pa.Table.from_pylist([row], schema=SCHEMA))
        of_old, of_new = hashlib.sha256(old).hexdigest(), fingerprint_of(store.files.read(new))
        known = [m for m in marks.read(store.files, suite)[0] if m.shard == of_old]
        marks.add(store.files, suite, [m.model_copy(update={"shard": of_new}) for m in known])
    if name not in done.superseded:
        done.moved[name] = new
    if new != name:
        store.drop(name)


def _put(store: Store, name: str, table: pa.Table) -> None:
    store.put(name, to_bytes(table))
    kept = store.read(name)
    if kept is None or not kept.equals(table):
        raise StoreError(f"{store.files.where(name)} does not read back as it was written; the old shard stays")


def _now(row: dict[str, Any], suite: str, version: int) -> dict[str, Any]:
    """A row of schema 1 or 2 as one of this schema. Raises `StoreError` where it is not of the trial and suite that it
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
    facts = json.loads(row["provenance"] or "{}")
    parts |= {"spec": trial.trial_id, "code": _code_now(trial, parts.get("code") or {})}
    parts |= {"device_class": facts.get("device"), "precision": facts.get("precision")}
    if reason := parts.pop("untuned", ""):
        parts["no_choice"] = reason
    return (
        {n: row.get(n) for n in SCHEMA.names}
        | (_SINCE_1 if version == 1 else {})
        | {"spec": to_json(trial.model_dump(mode="json")), **of_trial(trial), **of_identity(parts)}
    )


def _code_now(trial: Trial, code: Mapping[str, str]) -> dict[str, str]:
    """The digests of version 3 for a trial that was run by code with these digests of version 2."""
    from normbench.plan.digests import closure
    from normbench.plan.identity import modules_of

    before = _before_3()
    if all(digest_ in before["then"].get(name, ()) for name, digest_ in code.items()):
        try:
            modules = closure(modules_of(trial))
        except PluginError:  # a plug-in that is not here
            modules = frozenset()
        if modules and modules <= before["now"].keys():
            return {name: before["now"][name] for name in sorted(modules)}
    return {name.replace("benchmark.", "normbench.", 1): digest_ for name, digest_ in code.items()}


@cache
def _before_3() -> dict[str, Any]:
    """Digests of one and the same code. `then`: those of version 2 for each module, one for each kind of interpreter.
    `now`: those of version 3.
    """
    found: dict[str, Any] = json.loads(Path(__file__).with_name("before_3.json").read_text(encoding="utf-8"))
    return found


def _is_sealed(content: bytes) -> bool:
    """Whether a file of version 1 or 2 still has the bytes that were written."""
    start = content.rfind(_SEAL_KEY) + len(_SEAL_KEY) + 2  # Thrift: the key, then a field header and a length
    end = start + len(_NO_SEAL)
    found = hashlib.sha256(content[:start] + _NO_SEAL + content[end:])
    return content[start:end] == found.hexdigest().encode()
