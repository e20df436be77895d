"""Several runs on one results folder. Only one of them runs a trial. A run ends when all of its trials are stored, by
itself or by others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence

from normbench.plan.plan import UNFINISHED, Item
from normbench.spec.shown import counted
from normbench.store.files import Entry
from normbench.store.leases import Leases
from normbench.store.schema import SCHEMA_VERSION
from normbench.store.store import Store, StoreError


def shares(
    store: Store, suite: str, items: Sequence[Item], note: Callable[[str], None]
) -> Generator[list[Item], None, None]:
    """Yield the items that this process is to run, until all are stored: first those that nobody else works on, then
    those that others leave.

    Items that another run stores meanwhile are not yielded. Raises `LeaseError` where the results folder cannot be
    written to.
    """
    left = list(items)
    with Leases(store.files, suite, "bench run") as leases:
        while left:
            mine, others = leases.take(i.trial.trial_id for i in left)
            done = elsewhere(store, suite, left)
            if done:
                note(f"{counted(len(done), 'trial')} stored by another run meanwhile")
            left = [i for i in left if i.trial.trial_id not in done]
            batch = [i for i in left if i.trial.trial_id in mine]
            left = [i for i in left if i.trial.trial_id not in mine]
            if batch:
                yield batch
            elif left:
                whose = ", ".join(sorted(set(map(str, others))))
                note(f"waiting for {counted(len(left), 'trial')} that {whose} is running; Ctrl-C is safe")
                leases.wait(others, _Watch(store, suite, left))


class _Watch:
    """Whether others have stored all of these items. Reads files only when their folder has changed."""

    def __init__(self, store: Store, suite: str, items: Sequence[Item]) -> None:
        self._store, self._suite, self._items = store, suite, items
        self._seen: list[Entry] = []

    def __call__(self) -> bool:
        entries = [e for e in self._store.entries(self._suite) if e.name.endswith(".parquet")]
        if entries == self._seen:
            return False
        self._seen = entries
        return len(elsewhere(self._store, self._suite, self._items)) == len(self._items)


def elsewhere(store: Store, suite: str, items: Sequence[Item]) -> set[str]:
    """Ids of the items that have a fresh result since they were planned."""
    rows = {r["trial_id"]: r for r in store.rows([suite], ["trial_id", "identity_parts", "status", "started"])}
    found = set()
    for item in items:
        row = rows.get(item.trial.trial_id)
        if row is None or row["status"] in UNFINISHED or item.identity.changes_since(json.loads(row["identity_parts"])):
            continue
        if item.stored is None or row["started"] != item.stored["started"]:
            found.add(item.trial.trial_id)
    return found


def refuse_other_versions(store: Store) -> None:
    """Raise `StoreError` where the store has results of another schema: a run would repeat their trials."""
    newer = [p for p, v in store.versions.items() if v > SCHEMA_VERSION]
    older = [p for p, v in store.versions.items() if 0 < v < SCHEMA_VERSION]
    if newer:
        raise StoreError(
            f"{newer[0]} is one of {len(newer)} shards of a newer normbench: upgrade normbench, or keep other "
            "results with --results DIR"
        )
    if older:
        raise StoreError(
            f"{older[0]} is one of {len(older)} shards of an older normbench: bring them along with `bench results "
            f"migrate {store.root}`, "
            "or keep other results with --results DIR"
        )
