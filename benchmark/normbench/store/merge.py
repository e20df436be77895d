"""Pick results out of a folder, and bring two folders together."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.errors import BenchError
from normbench.store import about, marks, weights
from normbench.store.leases import Leases
from normbench.store.store import SUITE, Store, as_rows, shard_name


def export(store: Store, target: Store, *, norms: Sequence[str] = (), suites: Sequence[str] = ()) -> list[str]:
    """Copy the shards of the given methods (labels, or bare method names) and suites to another folder, for a pull
    request.

    What a suite says of itself comes along. Returns the names of the shards. Raises `BenchError` when none fits.
    """
    chosen: dict[str, list[str]] = {}
    # Whole rows are read, so that none is copied that holds what no row may.
    for row in store.table(suites or None).select(["suite", "trial_id", "norm"]).to_pylist():
        parts = [p.partition("[")[0] for p in row["norm"].split("+")]
        if not norms or row["norm"] in norms or any(p in norms for p in parts):
            chosen.setdefault(row["suite"], []).append(row["trial_id"])
    if not chosen:
        raise BenchError(
            f"nothing to export: {store.root} has no results of {', '.join([*norms, *suites]) or 'any suite'}"
        )
    copied = []
    for suite, trial_ids in chosen.items():
        for trial_id, content in store.extract(suite, trial_ids):
            name = shard_name(suite, trial_id)
            target.put(name, content)
            copied.append(name)
        about.bring(store, target, suite)
    return copied


def merge(source: Store, target: Store) -> dict[str, int]:
    """Bring the readable rows of `source` into `target`, with their weights where they were kept. Where both have a
    trial, the one that started later stays. Marks come along where they are about a shard that `target` then has, and
    what a suite says of itself where `target` does not know it. Returns counts.

    Raises `LeaseError` while a run on `target` works on one of them.
    """
    counts = {"added": 0, "replaced": 0, "kept": 0, "marks": 0}
    columns = ["suite", "trial_id", "started"]
    here = {(r["suite"], r["trial_id"]): r["started"] for r in target.rows(columns=columns)}
    chosen: dict[str, list[str]] = {}
    for row in as_rows(source.table().select(columns)):
        key = (row["suite"], row["trial_id"])
        if key in here and here[key] >= row["started"]:
            counts["kept"] += 1
        else:
            chosen.setdefault(row["suite"], []).append(row["trial_id"])
    for suite, trial_ids in chosen.items():
        with Leases(target.files, suite, "bench results merge") as leases:
            leases.hold(trial_ids)
            for trial_id, content in source.extract(suite, trial_ids):
                weights.bring(source, target, suite, trial_id)
                target.put(shard_name(suite, trial_id), content)
                counts["replaced" if (suite, trial_id) in here else "added"] += 1
    # Marks and words of a suite come without shards too.
    for suite in sorted(e.name for e in source.entries() if e.is_folder and SUITE.fullmatch(e.name)):
        if target.shards(suite):
            about.bring(source, target, suite)
        counts["marks"] += marks.add(
            target.files, suite, marks.about(target, suite, marks.read(source.files, suite)[0])
        )
    return counts
