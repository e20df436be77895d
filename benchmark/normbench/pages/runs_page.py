"""The table of all runs, and its rows as one columnar script that `runs.js` reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from normbench.board import Board, Entry, Metric, Run
from normbench.pages.context import Context, trial_slug
from normbench.spec.text import natural

#: Metrics that get a column; those that most runs have.
METRICS = 8
#: Columns that are shown even where all runs agree; others are then offered in the menu of columns.
ALWAYS = {"method", "dataset", "status"}
#: Metrics that are shown before anyone chooses.
SHOWN_METRICS = 4
#: Rows a page; the first page also stands there without JavaScript.
PAGE = 50


def write(context: Context) -> None:
    """Write runs.html and runs-data.js."""
    runs = [(b, e, r) for b in context.results.boards for e in b.entries for r in e.runs]
    places = {b.id: place for place, b in enumerate(context.results.boards)}
    runs.sort(key=lambda x: (places[x[0].id], natural(x[1].label), x[2].seed))
    columns = _columns(runs)
    told = {"rows": len(runs), "pages": context.trial_pages, "columns": columns}
    script = json.dumps(told, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    context.writer.text("runs-data.js", f"NB.runs({script});\n")
    context.writer.page(
        "runs.html",
        "runs.html",
        title="All runs",
        rows=len(runs),
        columns=columns,
        first=[[(text(c, i), c) for c in columns] for i in range(min(PAGE, len(runs)))],
        links=[context.trial_href(r.trial_id) if context.trial_pages else "" for _, _, r in runs[:PAGE]],
    )


def _columns(runs: Sequence[tuple[Board, Entry, Run]]) -> list[dict[str, Any]]:
    specs = [e.spec for _, e, _ in runs]
    found = [
        _category("method", "Method", [e.norm for _, e, _ in runs], True),
        _category("dataset", "Dataset", [b.dataset for b, _, _ in runs], True),
        _category("model", "Model", [b.model for b, _, _ in runs], True),
        _category("batch", "Batch", [b.batch_size for b, _, _ in runs], True),
        _category("width", "Width", [b.width for b, _, _ in runs], True),
        _category("wd", "Weight decay", [s["train"]["weight_decay"] for s in specs], True),
        _category("lr", "Learning rate", [s["train"]["lr"] for s in specs], False),
        _category("epochs", "Epochs", [s["train"]["epochs"] for s in specs], False),
        _category("seed", "Seed", [r.seed for _, _, r in runs], True),
        _category("status", "Status", [r.status.replace("_", " ") for _, _, r in runs], True),
        _category("level", "Trust", [r.level.value for _, _, r in runs], True),
    ]
    metrics = _metrics(runs)
    first = [m.key for m in metrics if m.group == "clean"] + [m.key for m in metrics if m.group == "weight-norm"][:1]
    first += [m.key for m in metrics if m.group == "robust"][: SHOWN_METRICS - len(first)]
    for metric in metrics:
        values = [r.values.get(metric.key) for _, _, r in runs]
        found.append(
            _number(
                metric.key,
                metric.heading,
                values,
                unit=metric.unit,
                scale=100 if metric.share else 1,
                digits=2,
                shown=metric.key in first,
            )
        )
    found.append(
        _number("speed", "Images/s", [r.images_per_second for _, _, r in runs], unit="", scale=1, digits=0, shown=False)
    )
    trials = [trial_slug(r.trial_id) for _, _, r in runs]
    return [*found, {"key": "trial", "label": "Trial", "kind": "text", "shown": True, "values": trials}]


def _metrics(runs: Sequence[tuple[Board, Entry, Run]]) -> list[Metric]:
    counts: Counter[str] = Counter()
    by_key: dict[str, Metric] = {}
    for board in {id(b): b for b, _, _ in runs}.values():
        for metric in board.metrics:
            by_key[metric.key] = metric
            counts[metric.key] += sum(metric.key in e.cells for e in board.entries)
    chosen = sorted(by_key, key=lambda k: (k != "clean", -counts[k], k))[:METRICS]
    order = {"clean": 0, "robust": 1, "weight-norm": 2}
    return sorted(
        (by_key[k] for k in chosen),
        key=lambda m: (order[m.group], m.attack, m.size or 0, m.key != "growth:weight-norm.raw", m.key),
    )


def _category(key: str, label: str, values: Sequence[Any], shown: bool) -> dict[str, Any]:
    """A column of few distinct values: the values in order, and for each row which one."""
    distinct = sorted(set(values))
    place = {v: i for i, v in enumerate(distinct)}
    numeric = all(isinstance(v, int | float) for v in distinct)
    return {
        "key": key,
        "label": label,
        "kind": "category",
        "numeric": numeric,
        "shown": shown and (len(distinct) > 1 or key in ALWAYS),
        "values": [f"{v:g}" if isinstance(v, float) else str(v) for v in distinct],
        "rows": [place[v] for v in values],
    }


def _number(
    key: str, label: str, values: Sequence[float | None], *, unit: str, scale: int, digits: int, shown: bool
) -> dict[str, Any]:
    exact = 6 if scale == 100 else 4
    return {
        "key": key,
        "label": f"{label}, {unit}" if unit else label,
        "kind": "number",
        "shown": shown,
        "scale": scale,
        "digits": digits,
        "rows": [None if v is None else round(v, exact) for v in values],
    }


def text(column: dict[str, Any], row: int) -> str:
    """A cell as shown; `runs.js` shows it the same way."""
    if column["kind"] == "category":
        return str(column["values"][column["rows"][row]])
    if column["kind"] == "text":
        return str(column["values"][row])
    value = column["rows"][row]
    return "–" if value is None else f"{value * column['scale']:.{column['digits']}f}"
