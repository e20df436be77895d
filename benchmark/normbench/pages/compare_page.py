"""Any two methods of a board, seed by seed: numbers for `compare.js`, and without JavaScript every method against one
reference.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from normbench.board import Board, Entry, against
from normbench.pages import figures
from normbench.pages.context import Context

#: Bytes of per-image outcomes that a board's script may carry; beyond, McNemar's test is left to the Parquet files.
OUTCOME_BYTES = 2_000_000
#: Boards whose comparison with a reference stands in the page itself.
STATIC = 12


def write(context: Context) -> None:
    """Write compare.html and `compare/<board>.js` for every board with at least two entries."""
    boards = [b for b in context.results.boards if len(b.entries) > 1 and b.metrics]
    for board in boards:
        text = json.dumps(_data(context, board), allow_nan=False, separators=(",", ":"), sort_keys=True).replace(
            "</", "<\\/"
        )
        context.writer.text(f"compare/{board.slug}.js", f"NB.board({json.dumps(board.slug)},{text});\n")
    largest = sorted(boards, key=lambda b: -sum(len(e.runs) for e in b.entries))
    context.writer.page(
        "compare.html",
        "compare.html",
        title="Compare",
        boards=[{"slug": b.slug, "title": b.title} for b in largest],
        tables=[t for b in largest[:STATIC] if (t := _against_reference(context, b))],
    )


def _data(context: Context, board: Board) -> dict[str, Any]:
    entries = [_entry(e) for e in sorted(board.entries, key=lambda e: e.label)]
    packed = 0
    outcomes: dict[str, dict[str, str]] = {}
    for entry in board.entries:
        for run in entry.runs:
            if not run.ok:
                continue
            row = context.results.row(run.trial_id, ["clean_outcomes", "attacks"])
            found = {f"{a['attack']}@{a['size']:.9g}": a["outcomes"] for a in row["attacks"] or []} | {
                "clean": row["clean_outcomes"]
            }
            packed += sum(len(bits) for bits in found.values() if bits)
            if packed > OUTCOME_BYTES:
                break
            outcomes[run.trial_id] = {key: base64.b64encode(bits).decode() for key, bits in found.items() if bits}
    return {
        "entries": entries,
        "metrics": [{"key": m.key, "label": m.label, "share": m.share, "unit": m.unit} for m in board.metrics],
        "outcomes": outcomes if packed <= OUTCOME_BYTES else {},
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "label": entry.label,
        "status": entry.status,
        "points": {key: [[p.seed, p.value, p.trial_id] for p in cell.points] for key, cell in entry.cells.items()},
    }


def _against_reference(context: Context, board: Board) -> dict[str, Any] | None:
    metric = board.headline("clean")
    reference = figures.reference(board, metric) if metric else None
    if metric is None or reference is None:
        return None
    return {
        "title": board.title,
        "href": context.topic_href("accuracy", board),
        "metric": metric.label,
        "reference": reference.label,
        "rows": [
            {
                "label": entry.label,
                "difference": f"{100 * comparison.mean:+.2f}" if comparison.mean is not None else "–",
                "interval": f"{100 * comparison.interval.low:+.2f} to {100 * comparison.interval.high:+.2f}"
                if comparison.interval
                else "–",
                "n": len(comparison.pairs),
                "p": "–" if comparison.p_holm is None else f"{comparison.p_holm:.3g}",
                "verdict": comparison.verdict,
            }
            for entry, comparison in against(board, reference, metric)
        ],
    }
