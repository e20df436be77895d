"""A page for each trial: what it was, what it did, where it came from."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from normbench.board import CLEAN, STALE, Board, Entry, wilson
from normbench.board.words import NORMS, attacked, capital
from normbench.pages.context import Context, trial_slug
from normbench.pages.figures import trial_curves
from normbench.pages.measured import measured
from normbench.pages.methods import key_of
from normbench.pages.strips import Strip
from normbench.pages.tables import board_table
from normbench.plan.origin import Origin
from normbench.spec.text import show
from normbench.store.marks import Mark


def write(context: Context) -> None:
    """Write `trials/<id>.html` and `trials/<id>.parquet` for every trial, unless there are too many."""
    if not context.trial_pages:
        return
    for board in context.results.boards:
        strips = {row.entry.id: row.strip for row in board_table(board, board.headline("clean"), [], context).rows}
        for entry in board.entries:
            for run in entry.runs:
                _page(context, board, entry, run.trial_id, strips[entry.id])


def _page(context: Context, board: Board, entry: Entry, trial_id: str, strip: Strip | None) -> None:
    row = context.results.row(trial_id)
    slug, run = trial_slug(trial_id), next(r for r in entry.runs if r.trial_id == trial_id)
    spec = json.loads(row["spec"])
    audit, provenance = (json.loads(row[key] or "{}") for key in ("audit", "provenance"))
    chart = trial_curves(context, row, context.methods[key_of(entry)].family, f"trial-{slug}")
    values = {p.trial_id: p.value for p in entry.cells["clean"].points} if "clean" in entry.cells else {}
    context.writer.page(
        "trial.html",
        f"trials/{slug}.html",
        title=f"{entry.label}, seed {row['seed']}, on {board.title} (trial {slug})",
        description=f"One trial of {row['norm']}: accuracy, curves, attacks, specification and how to run it again.",
        row={k: row[k] for k in ("norm", "seed", "status", "epoch", "reason", "log")},
        slug=slug,
        board={"href": context.topic_href("accuracy", board), "title": board.title},
        entry=entry,
        method=context.methods[key_of(entry)],
        headline=_headline(row),
        siblings=[
            {
                "href": f"{trial_slug(r.trial_id)}.html",
                "current": r.trial_id == trial_id,
                "failed": not r.ok,
                "text": f"seed {r.seed} "
                f"{CLEAN.display(values[r.trial_id]) + ' %' if r.trial_id in values else r.status.replace('_', ' ')}",
            }
            for r in entry.runs
        ],
        siblings_strip=strip,
        charts=[chart] if chart else [],
        attacks=[_attack(a) for a in row["attacks"] or []],
        health=row["health"] or [],
        measured=measured(row),
        commands=_commands(row, context.origin),
        ran_at=str(provenance.get("commit") or "")[:12],
        dataset=row["dataset"],
        run=_run(row),
        level=run.level,
        stale=f"Stale: {STALE}." if run.stale else "",
        marks=[_mark(m) for m in context.results.marks.get((row["suite"], trial_id), ())],
        provenance=list(_flat(provenance)),
        audit=[(k.replace("_", " "), _count(v)) for k, v in audit.items()],
        audit_json=_pretty(audit) if audit else "",
        spec=_pretty(spec),
    )
    buffer = io.BytesIO()
    pq.write_table(context.results.shard(trial_id), buffer, compression="zstd")
    context.writer.bytes(f"trials/{slug}.parquet", buffer.getvalue())


def _headline(row: Mapping[str, Any]) -> dict[str, str] | None:
    if row["clean_correct"] is None or not row["test_total"]:
        return None
    interval = wilson(row["clean_correct"], row["test_total"])
    return {
        "value": CLEAN.display(row["clean_correct"] / row["test_total"]),
        "low": CLEAN.display(interval.low),
        "high": CLEAN.display(interval.high),
        "total": f"{row['test_total']:,}",
    }


def _attack(attack: Mapping[str, Any]) -> dict[str, str]:
    interval = wilson(attack["correct"], attack["total"])
    return {
        "attack": capital(attacked(attack["attack"], attack["threat"], None)),
        "threat": NORMS.get(attack["threat"], attack["threat"]),
        "size": show(attack["size"]),
        "accuracy": CLEAN.display(attack["accuracy"]),
        "interval": f"{CLEAN.display(interval.low)} to {CLEAN.display(interval.high)}",
        "total": f"{attack['total']:,}",
        "seconds": f"{attack['seconds']:.1f}",
        "calls": f"{attack['model_calls']:,}",
    }


def _mark(mark: Mark) -> dict[str, Any]:
    return {
        "level": mark.level,
        "extent": mark.extent,
        "when": f"{mark.when:%Y-%m-%d}",
        "commit": str(mark.provenance.get("commit") or "unknown")[:12],
        "machine": str(mark.provenance.get("cpu") or mark.provenance.get("device") or "unknown"),
        "compared": [
            (c.what, *("–" if v is None else f"{v:.6g}" for v in (c.expected, c.found)), f"{c.tolerance:.2g}")
            for c in mark.compared
        ],
    }


def _run(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    def number(key: str, form: str, unit: str) -> str:
        return "–" if row[key] is None else f"{row[key]:{form}} {unit}"

    return [
        ("Trial", row["trial_id"]),
        ("Suite", row["suite"]),
        ("Status", row["status"].replace("_", " ")),
        ("Started", f"{row['started']:%Y-%m-%d %H:%M} UTC" if row["started"] else "–"),
        ("Wall time", number("wall_seconds", ".1f", "s")),
        ("Training time", number("train_seconds", ".1f", "s")),
        ("Training speed", number("images_per_second", ",.0f", "images/s")),
        ("Peak memory", "–" if row["peak_memory"] is None else f"{row['peak_memory'] / 2**20:,.0f} MiB"),
        ("Test loss", number("test_loss", ".4f", "")),
        ("Training loss", number("train_loss", ".4f", "(mean of the last epoch)")),
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Any:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}".replace("_", " "), "–" if item is None else show(item)


def _count(value: Any) -> str:
    return str(len(value)) if isinstance(value, list) else "–" if value is None else show(value)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _commands(row: Mapping[str, Any], origin: Origin) -> str:
    """What runs this very trial again and compares, from nothing on: checkout, environment, the trial."""
    lines = [f"git clone {origin.repository} normbench && cd normbench"] if origin.repository else []
    lines += [f"git checkout {origin.commit}"] if origin.commit else []
    lines += ["uv venv --allow-existing && uv pip install -c constraints.txt -e ."]
    return "\n".join([*lines, shlex.join([".venv/bin/bench", "rerun", row["trial_id"], "--suite", row["suite"]])])
