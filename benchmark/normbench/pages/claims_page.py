"""The claims of the sources: what they say, what holds, by which number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.claims._listed import Listed, chosen, listed
from normbench.claims.base import DECIDED, SOURCES
from normbench.pages.context import Context
from normbench.pages.study_pages import addresses
from normbench.studies import Evidence, Study


def write(context: Context, found: Mapping[str, Evidence], studies: Sequence[Study]) -> None:
    """Write claims.html: a row for each claim, a table for each source."""
    rows = listed(chosen(), lambda: found)
    paths = addresses(studies)
    pages = {s.name: (paths[id(s)], s.title) for s in reversed(studies)}
    counts = Counter(r.finding.verdict for r in rows)
    context.writer.page(
        "claims.html",
        "claims.html",
        title="Claims",
        sources=[
            {"key": key, "source": source, "rows": [_row(r, pages) for r in rows if r.claim.source == key]}
            for key, source in SOURCES.items()
        ],
        total=len(rows),
        decided=sum(counts[v] for v in DECIDED),
        counts=counts.most_common(),
    )


def _row(row: Listed, pages: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    claim, finding = row.claim, row.finding
    deciding = finding.deciding
    return {
        "name": claim.name,
        "claim": claim.summary,
        "place": claim.place,
        "test": claim.test,
        "verdict": finding.verdict,
        "number": deciding.text if deciding else finding.reason,
        "what": deciding.what if deciding else "",
        "parts": finding.parts if len(finding.parts) > 1 else (),
        "scope": finding.scope or claim.scope,
        "note": claim.note,
        "needed": finding.needed,
        "power": finding.power,
        "study": pages.get(claim.study),
    }
