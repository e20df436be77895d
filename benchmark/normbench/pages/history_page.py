"""What changed: rows by suite since the latest release and from release to release, and what the package notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normbench.pages.context import Context
from normbench.paths import checkout
from normbench.store.releases import Change, changes, rows_of

#: Kinds of notes, as file names of `changes/` have them, in the order in which they are shown.
KINDS = ("added", "changed", "fixed", "removed")


def write(context: Context) -> None:
    """Write history.html."""
    results = context.results
    known = results.releases
    now = changes(known.rows, rows_of([results.table, results.candidates]))
    if results.partial:  # suites that were not asked for are not gone
        now = {suite: change for suite, change in now.items() if change.rows}
    context.writer.page(
        "history.html",
        "history.html",
        title="What changed",
        description="What changed in the results and in the package since the last release, and before.",
        latest=known.releases[0] if known.releases else None,
        since=_rows(now),
        releases=[(r, _rows(r.suites)) for r in known.releases],
        notes=_notes(checkout()),
    )


def _rows(found: Mapping[str, Change]) -> list[dict[str, Any]]:
    """Suites that changed first."""
    rows = [{"suite": suite, **change.model_dump(), "same": not change} for suite, change in found.items()]
    return sorted(rows, key=lambda row: (row["same"], row["suite"]))


def _notes(root: Path | None) -> list[tuple[str, list[str]]]:
    """Notes on what is not released yet, by kind; none where no checkout has them."""
    found: list[tuple[str, list[str]]] = []
    for kind in KINDS if root else ():
        files = sorted((root / "changes").glob(f"*.{kind}.md"))  # type: ignore[operator]
        texts = [re.sub(r"\s+", " ", f.read_text(encoding="utf-8").replace("`", "")).strip() for f in files]
        if texts:
            found.append((kind.capitalize(), texts))
    return found
