"""Printed tables, and what was run here beside them."""

from __future__ import annotations

from typing import Any

from normbench.pages.context import Context
from normbench.pages.methods import linked
from normbench.published import Beside, Line, beside


def write(context: Context) -> None:
    """Write published.html: a table for each that is printed."""
    found = beside(context.results.boards)
    context.writer.page(
        "published.html",
        "published.html",
        title="Published numbers",
        tables=[_table(one, context) for one in found],
        total=sum(len(one.lines) for one in found),
        run=sum(one.run for one in found),
    )


def _table(one: Beside, context: Context) -> dict[str, Any]:
    return {
        "table": one.table,
        "source": linked(f"{one.table.source} {one.table.address}".strip()),
        "run": one.run,
        "rows": [_row(line, context) for line in one.lines],
    }


def _row(line: Line, context: Context) -> dict[str, Any]:
    return {
        "model": line.row.model,
        "norm": line.row.norm,
        "what": line.printed.what,
        "printed": line.printed.text,
        "here": line.here,
        "ran": line.own is not None,
        "status": line.status if line.own else "",
        "device": line.device,
        "difference": line.difference_text,
        "trials": [context.trial_href(t) for t in (line.own.trials if line.own else ())],
    }
