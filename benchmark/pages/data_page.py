"""The results to take away: Parquet and CSV of each board, the schema, checksums."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any

import pyarrow as pa

from benchmark.board import Board
from benchmark.pages.context import Context
from benchmark.store import SCHEMA, SCHEMA_VERSION, to_bytes

#: What the columns of a row hold, where the name does not say it all.
COLUMNS = {
    "suite": "suite file that the trial was run for",
    "trial_id": "first 16 digits of the SHA-256 of the specification",
    "identity": "hash of all that decides the result: specification, data, code, protocol, versions",
    "identity_parts": "the parts of the identity, JSON",
    "spec": "resolved specification, JSON",
    "width": "multiplier of the channel numbers",
    "status": "ok, diverged, out_of_memory, timed_out, error or killed",
    "reason": "why it failed, one line",
    "log": "last lines of a failed trial",
    "epoch": "finished epochs",
    "clean_accuracy": "share of test images that are classified correctly",
    "clean_outcomes": "packed bits, one a test image: 1 = correct",
    "train_loss": "mean over the last epoch",
    "attacks": "one struct for each attack and size: accuracy, packed outcomes, seconds, model calls; sizes in pixel space",
    "curves": "long form: step, epoch, measure, layer (empty: whole network), value",
    "audit": "what the swap of layers did, JSON",
    "provenance": "commit, versions, device, JSON",
    "wall_seconds": "of the whole trial",
    "train_seconds": "of training alone",
    "images_per_second": "training images divided by training seconds",
    "peak_memory": "bytes: of the GPU where one was used, else of the process",
}


def write(context: Context) -> None:
    """Write data.html, and under `data/` a Parquet and a CSV file for each board."""
    files = []
    for board in context.results.boards:
        trials = [r.trial_id for e in board.entries for r in e.runs]
        table = context.results.table.take(pa.array([context.results.position[t] for t in trials]))
        parquet, text = to_bytes(table), board_csv(board).encode()
        found: dict[str, Any] = {"title": board.title, "trials": len(trials), "files": []}
        for suffix, content in (("csv", text), ("parquet", parquet)):
            path = f"data/{board.slug}.{suffix}"
            context.writer.bytes(path, content)
            found["files"].append(
                {
                    "href": path,
                    "kind": suffix.upper() if suffix == "csv" else "Parquet",
                    "size": _size(len(content)),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
        files.append(found)
    checksums = "".join(f"{f['sha256']}  {f['href'].removeprefix('data/')}\n" for found in files for f in found["files"])
    context.writer.text("data/SHA256SUMS", checksums)
    context.writer.page(
        "data.html",
        "data.html",
        title="Data",
        boards=files,
        schema=[(field.name, str(field.type) if not pa.types.is_nested(field.type) else "list of structs", COLUMNS.get(field.name, "")) for field in SCHEMA],
        schema_version=SCHEMA_VERSION,
        problems=sorted(context.results.problems.items()),
    )


def board_csv(board: Board) -> str:
    """One line a trial: entry, settings, status, and every metric; accuracies as shares in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out)
    settings = [name for name, _ in board.entries[0].settings] if board.entries else []
    writer.writerow(
        ["trial", "method", "entry", "dataset", "model", "width", "batch_size", *settings, "seed", "status", "reason", "level", *(m.key for m in board.metrics)]
    )
    for entry in board.entries:
        for run in entry.runs:
            values = [run.values.get(m.key, "") for m in board.metrics]
            fixed = [run.trial_id, entry.norm, entry.label, board.dataset, board.model, board.width, board.batch_size, *(v for _, v in entry.settings)]
            writer.writerow([_safe(v) for v in fixed] + [run.seed, run.status, _safe(run.reason), run.level.value, *values])
    return out.getvalue()


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quotation mark in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
