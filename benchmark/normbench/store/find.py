"""One stored trial, by its id or the beginning of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from normbench.store.store import Store, StoreError, as_rows

#: Shown of the trials that a beginning fits.
_SHOWN = 5


def known_suite(store: Store, suite: str) -> str:
    """The name of a suite that has results. Raises `StoreError` for any other."""
    there = store.suites()
    if suite not in there:
        raise StoreError(f"no results of suite {suite} in {store.root}; there are {', '.join(there) or 'none'}")
    return suite


def find(
    store: Store, trial_id: str, *, suite: str | None = None, columns: Sequence[str] | None = None
) -> dict[str, Any]:
    """The row of a trial. trial_id: its 16 hexadecimal digits, or the first of them where no other trial begins so.

    suite: where to look; None: everywhere. columns: of the row; None: all. Raises `StoreError` where no trial, or more
    than one, is meant.
    """
    if not re.fullmatch(r"[0-9a-f]{1,16}", trial_id):
        raise StoreError(f"{trial_id[:60]!r} is no id of a trial: expected 16 hexadecimal digits, or the first of them")
    suites = store.suites() if suite is None else [known_suite(store, suite)]
    table = store.table(suites, ["suite", "trial_id"]).to_pylist()
    found = [(r["suite"], r["trial_id"]) for r in table if r["trial_id"].startswith(trial_id)]
    if not found:
        raise StoreError(
            f"no trial whose id begins with {trial_id} in {store.root}; ids stand in bench status SUITE --json and on "
            "the pages of trials"
        )
    if len(found) > 1:
        same = {t for _, t in found}
        said = ", ".join(f"{t} of {s}" for s, t in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        advice = "say which suite" if len(same) == 1 else "give more digits"
        raise StoreError(f"{trial_id} may be each of {len(found)} trials, {said}: {advice}")
    ((name, whole),) = found
    rows = store.table([name], columns)
    at = store.table([name], ["trial_id"]).column("trial_id").to_pylist().index(whole)
    return next(as_rows(rows.slice(at, 1)))
