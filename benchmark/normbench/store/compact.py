"""Upkeep of a results folder: bring many shards into one file, and remove what nothing refers to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from normbench.store import weights
from normbench.store.leases import ALL, PREFIX, Leases
from normbench.store.schema import SCHEMA
from normbench.store.store import ASIDE, SUITE, Store, StoreError, compact_name, is_compact, to_bytes

#: After so many seconds a temporary file belongs to no living write: no write takes nearly as long.
LEFT_OVER = 600.0


@dataclass(frozen=True)
class Compacted:
    """What compaction did to a suite. `file` is None where there was nothing to do."""

    suite: str
    file: str | None
    rows: int
    removed: int


def compact(store: Store, suite: str) -> Compacted:
    """Bring all readable rows of a suite into one file, sorted by trial_id, then remove the files that they came from.

    The same rows give the same bytes and the same name. A crash at any moment leaves each row readable, once or twice;
    the next compaction goes on. Files that cannot be read stay where they are. Raises `LeaseError` while a run works on
    the suite.
    """
    with Leases(store.files, suite, "bench results compact") as leases:
        leases.hold([ALL])
        before = {f"{suite}/{e.name}": e for e in store.entries(suite)}
        table = store.table([suite])
        used = [n for n in store.shards(suite) if n in before and store.files.where(n) not in store.problems]
        if not table.num_rows or (len(used) == 1 and is_compact(used[0])):
            return Compacted(suite, None, table.num_rows, 0)
        content = to_bytes(table)
        target = f"{suite}/{compact_name(content)}"
        store.put(target, content)
        _check(store, target, table)
        now = {f"{suite}/{e.name}": e for e in store.entries(suite)}
        removed = 0
        for name in sorted(
            (n for n in used if n != target), key=lambda n: not is_compact(n)
        ):  # older compact files go first: while shards are there, they count
            if (
                now.get(name) == before[name]
            ):  # a shard may have been written again meanwhile, and is then newer than the compacted row
                store.drop(name)
                removed += 1
        return Compacted(suite, target, table.num_rows, removed)


def _check(store: Store, name: str, table: pa.Table) -> None:
    """Read back what was written before anything is removed."""
    kept = store.read(name)
    if kept is None or not kept.equals(table):
        raise StoreError(f"{store.files.where(name)} does not read back as it was written; nothing was removed")


@dataclass(frozen=True)
class Garbage:
    """A file, or rows of these trials in one, that nothing refers to."""

    name: str
    reason: str
    trials: tuple[str, ...] = ()


def garbage(store: Store, *, broken: bool = False, unplanned: tuple[str, Iterable[str]] | None = None) -> list[Garbage]:
    """What may be removed: left-over temporary files, leases and weights; with `broken`, also shards that were set
    aside; with `unplanned` (a suite and the ids that it plans), also results of trials that the suite plans no longer.
    """
    found = []
    now = time.time()
    folders = [e.name for e in store.entries() if e.is_folder]
    for folder in ["", *folders, *(f"{name}/{weights.FOLDER}" for name in folders)]:
        for entry in store.entries(folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if (
                entry.name.startswith(".")
                and entry.name.endswith(".tmp")
                and not entry.is_folder
                and now - entry.modified > LEFT_OVER
            ):
                found.append(Garbage(name, "left over from a write that did not end"))
            elif broken and entry.name == ASIDE and entry.is_folder:
                found += [Garbage(f"{name}/{e.name}", "set aside") for e in store.entries(name)]
    for folder in folders:
        leases = Leases(store.files, folder, "bench results gc")
        found += [Garbage(name, "a lease of a process that is gone") for name in leases.void()]
        if SUITE.fullmatch(folder) and ALL not in (running := leases.living()):
            found += [Garbage(name, "weights that no result names") for name in weights.unnamed(store, folder, running)]
    if unplanned:
        suite, planned = unplanned[0], set(unplanned[1])
        why = "of trials that the suite does not plan any more"
        found += rows_of(store, suite, lambda trial_id: trial_id not in planned, why)
    return found


def rows_of(store: Store, suite: str, wanted: Callable[[str], bool], reason: str) -> list[Garbage]:
    """The rows of a suite whose trial's id is wanted, by the files that hold them."""
    found = []
    for name in store.shards(suite):
        table = store.read(name, pa.schema([SCHEMA.field("trial_id")]))
        within = tuple(filter(wanted, table.column("trial_id").to_pylist())) if table is not None else ()
        if within:
            found.append(Garbage(name, reason, within))
    return found


def collect(store: Store, found: Iterable[Garbage]) -> None:
    """Remove what `garbage` found. To remove rows, their file is written anew without them, and their weights go too.
    Raises `LeaseError` while a run works on a suite with such rows.
    """
    for item in sorted(found, key=lambda g: not is_compact(g.name)):  # a shard hides the row in a compact file
        suite, _, name = item.name.rpartition("/")
        if name.startswith(PREFIX):
            with Leases(store.files, suite, "bench results gc") as leases:
                leases.others()  # which removes it, if it is void still
            continue
        if not item.trials:
            store.drop(item.name)
            continue
        with Leases(store.files, suite, "bench results gc") as leases:
            leases.hold([ALL])
            table = store.read(item.name)
            if table is None:
                continue
            gone = set(item.trials)
            kept = table.filter(pa.array([t not in gone for t in table.column("trial_id").to_pylist()]))
            if kept.num_rows:
                content = to_bytes(kept)
                store.put(f"{suite}/{compact_name(content)}", content)
            store.drop(item.name)
            for trial_id in gone & weights.sizes(store, suite).keys():
                store.drop(weights.file_of(suite, trial_id))
