"""`bench results release`: what the results hold now is written down, so that the site says what has changed since."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

import normbench
from normbench.cli.results import Results, open_store
from normbench.cli.say import say

_VERSION = re.compile(r"\d+(\.\d+)*([-+.]?[a-z0-9]+)*")


def release(
    version: Annotated[
        str | None, typer.Argument(help="The release [default: the version of normbench].", metavar="[VERSION]")
    ] = None,
    results: Results = None,
) -> None:
    """Write down what the results hold as a release, in releases.json beside them: rows added, removed and changed by
    suite since the release before.
    """
    from normbench.errors import BenchError
    from normbench.store.releases import FILE, note

    chosen = version or normbench.__version__
    if not _VERSION.fullmatch(chosen):
        raise BenchError(f"{chosen[:60]!r} is no version: expected numbers with dots, such as 1.2.0")
    store = open_store(results, must_exist=True)
    made = note(store, chosen, f"{datetime.now(UTC):%Y-%m-%d}")
    for suite, change in made.suites.items():
        said = [f"{n:,} {what}" for what in ("added", "removed", "changed") if (n := getattr(change, what))]
        say(f"{suite}: {change.rows:,} rows, {', '.join(said) or 'the same as before'}")
    say(f"release {made.version}, data version {made.data_version}: {store.files.where(FILE)}")
