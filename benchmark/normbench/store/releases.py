"""What a results folder held at each release, in `releases.json` within it: counts by suite of what was added, removed
and changed since the release before, and the rows of the latest one. `bench results release` writes it; the site reads
it. No row and no identity depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, ValidationError

from normbench.spec.trial import Value
from normbench.store.reading import StoreError, told
from normbench.store.store import Store

FILE = "releases.json"
#: Columns that say which result a row is, and which of several runs of it.
COLUMNS = ("suite", "trial_id", "identity", "status", "started")
#: Hexadecimal digits kept of a row's hash.
DIGITS = 12
#: Suite -> trial -> hash of its row.
Rows = dict[str, dict[str, str]]


class Change(Value):
    """What became of a suite's rows from one release to the next."""

    rows: int
    """That it has then."""
    added: int
    removed: int
    changed: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Release(Value):
    """One release: of normbench, of which data version, on which day."""

    version: str
    data_version: str
    date: str
    suites: dict[str, Change]


class Releases(Value):
    """All releases, the latest first, and the rows of the latest."""

    # A later version may say more; that is no reason to hide what this one can read.
    model_config = ConfigDict(extra="ignore")

    releases: tuple[Release, ...] = ()
    rows: Rows = {}  # noqa: RUF012


def data_version(tables: Iterable[pa.Table]) -> str:
    """12 digits that change whenever a result does: which trials there are, what they were run with, when, and how they
    ended.
    """
    found = hashlib.sha256()
    for table in tables:
        for row in _told(table):
            found.update("\0".join(row).encode() + b"\n")
    return found.hexdigest()[:12]


def rows_of(tables: Iterable[pa.Table]) -> Rows:
    """Each row's hash, by suite and trial."""
    found: Rows = {}
    for table in tables:
        for suite, trial, *rest in _told(table):
            digest = hashlib.sha256("\0".join(rest).encode()).hexdigest()[:DIGITS]
            found.setdefault(suite, {})[trial] = digest
    return found


def _told(table: pa.Table) -> Iterable[tuple[str, ...]]:
    columns = ([str(v) for v in table.column(c).cast(pa.string()).to_pylist()] for c in COLUMNS)
    return zip(*columns, strict=True)


def changes(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> dict[str, Change]:
    """By suite, also of suites that are gone."""
    found = {}
    for suite in sorted({*before, *now}):
        old, new = before.get(suite, {}), now.get(suite, {})
        common = old.keys() & new.keys()
        found[suite] = Change(
            rows=len(new),
            added=len(new) - len(common),
            removed=len(old) - len(common),
            changed=sum(old[t] != new[t] for t in common),
        )
    return found


def read(store: Store) -> Releases:
    """What the file of a results folder says; nothing where there is none, and where it cannot be read, which
    `store.problems` then names.
    """
    try:
        return Releases.model_validate_json(store.files.read(FILE))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        store.problems[store.files.where(FILE)] = f"it does not say what was released: {place or first['msg']}"[:300]
    except OSError as error:
        store.problems[store.files.where(FILE)] = told(error)
    return Releases()


def note(store: Store, version: str, date: str) -> Release:
    """Write down what the folder holds now as the release `version`; a release of that version is written anew.

    Raises `StoreError` where the file there cannot be read, or cannot be written.
    """
    there = read(store)
    if (problem := store.problems.get(store.files.where(FILE))) is not None:
        raise StoreError(f"{store.files.where(FILE)}: {problem}; nothing was written")
    if any(r.version == version for r in there.releases):
        raise StoreError(f"{store.files.where(FILE)} has a release {version} already; releases are never written anew")
    table = store.table(None, [*COLUMNS, "stage"])
    now = rows_of([table])
    release = Release(
        version=version,
        data_version=data_version(split(table)),
        date=date,
        suites=changes(there.rows, now),
    )
    made = Releases(releases=(release, *there.releases), rows=now)
    store.put(FILE, f"{made.model_dump_json(indent=1)}\n".encode())
    return release


def split(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Final trials, and candidates of tuning."""
    tuning = pc.equal(table.column("stage"), "tuning")
    return table.filter(pc.invert(tuning)), table.filter(tuning)
