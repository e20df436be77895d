"""Which stored results are stale by the code that is here, told from their rows alone: what boards and pages mark.

`normbench.plan.plan` asks more of the trials that a suite plans: their data, and the versions of libraries. These are
of a machine, and a board shall say the same on all machines that have the same code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from normbench.plan.digests import source_digest
from normbench.spec.trial import PROTOCOL

_OWN = __name__.partition(".")[0]


def outdated(parts: Mapping[str, Any]) -> bool:
    """Whether a module that a result was made by has changed, or the numeric protocol has. parts: of its identity, as
    the store keeps them. A plug-in of a package that is not installed here counts as unchanged.
    """
    return parts.get("protocol") != PROTOCOL or any(
        now != digest
        for name, digest in (parts.get("code") or {}).items()
        if (now := source_digest(name)) != "absent" or name.partition(".")[0] == _OWN
    )


def with_staleness(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a store with the column `stale` that boards read. Rows of one `source` were made by the same code, so
    that a hundred thousand rows cost a few looks.
    """
    known: dict[str, bool] = {}
    for row in rows:
        if row["source"] not in known:
            known[row["source"]] = outdated(json.loads(row["identity_parts"]))
        yield {**row, "stale": known[row["source"]]}
