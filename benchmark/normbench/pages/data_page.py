"""The results to take away: Parquet and CSV of each board, the schema, checksums."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from normbench.board import Board
from normbench.board.sheets import harmless
from normbench.board.tuning import Sweep
from normbench.pages.context import Context
from normbench.store.schema import SCHEMA, SCHEMA_VERSION
from normbench.store.store import to_bytes

#: What the columns of a row hold, where the name does not say it all.
COLUMNS = {
    "suite": "suite file that the trial was run for",
    "trial_id": "first 16 digits of the SHA-256 of the specification",
    "identity": "hash of all that decides the result: specification, data, code, protocol, versions",
    "identity_parts": "the parts of the identity, JSON",
    "spec": "resolved specification, JSON",
    "width": "multiplier of the channel numbers",
    "stage": "final; or tuning: a candidate, which was judged on held-out training images and saw no test image",
    "status": "ok, diverged, out_of_memory, timed_out, error, killed, or stopped: a candidate that its scheduler "
    "gave up early",
    "reason": "why it failed, one line",
    "log": "last lines of a failed trial",
    "epoch": "finished epochs",
    "clean_accuracy": "share of test images that are classified correctly",
    "clean_outcomes": "packed bits, one a test image: 1 = correct",
    "train_loss": "mean over the last epoch",
    "validation_accuracy": "share of the held-out training images that are classified correctly, after the last epoch",
    "attacks": "one struct for each attack and size: accuracy, packed outcomes, seconds, model calls; sizes in "
    "pixel space",
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
        files.append(_files(context, board.title, f"data/{board.slug}", board_csv(board), table))
    if context.results.sweeps:
        files.append(
            _files(
                context,
                "Candidates of tuning",
                "data/tuning.candidates",
                sweeps_csv(context.results.sweeps),
                context.results.candidates,
            )
        )
    checksums = "".join(
        f"{f['sha256']}  {f['href'].removeprefix('data/')}\n" for found in files for f in found["files"]
    )
    context.writer.text("data/SHA256SUMS", checksums)
    context.writer.page(
        "data.html",
        "data.html",
        title="Data",
        boards=files,
        schema=[
            (
                field.name,
                str(field.type) if not pa.types.is_nested(field.type) else "list of structs",
                COLUMNS.get(field.name, ""),
            )
            for field in SCHEMA
        ],
        schema_version=SCHEMA_VERSION,
        problems=sorted(context.results.problems.items()),
    )


def _files(context: Context, title: str, path: str, text: str, table: pa.Table) -> dict[str, Any]:
    """Write `path`.csv and `path`.parquet; what the page says of them."""
    files = []
    for suffix, content in (("csv", text.encode()), ("parquet", to_bytes(table))):
        context.writer.bytes(f"{path}.{suffix}", content)
        kind, checksum = "CSV" if suffix == "csv" else "Parquet", hashlib.sha256(content).hexdigest()
        files.append({"href": f"{path}.{suffix}", "kind": kind, "size": _size(len(content)), "sha256": checksum})
    return {"title": title, "trials": table.num_rows, "files": files}


def board_csv(board: Board) -> str:
    """One line a trial: entry, settings, status, and every metric; accuracies as shares in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out)
    settings = [name for name, _ in board.entries[0].settings] if board.entries else []
    writer.writerow(
        [
            "trial",
            "method",
            "entry",
            "dataset",
            "model",
            "width",
            "batch_size",
            *settings,
            "seed",
            "status",
            "reason",
            "level",
            *(m.key for m in board.metrics),
        ]
    )
    for entry in board.entries:
        for run in entry.runs:
            values = [run.values.get(m.key, "") for m in board.metrics]
            fixed = [
                run.trial_id,
                entry.norm,
                entry.label,
                board.dataset,
                board.model,
                board.width,
                board.batch_size,
                *(v for _, v in entry.settings),
            ]
            writer.writerow(
                [harmless(v) for v in fixed] + [run.seed, run.status, harmless(run.reason), run.level.value, *values]
            )
    return out.getvalue()


def sweeps_csv(sweeps: Sequence[Sweep]) -> str:
    """One line a setting of a sweep; accuracies as shares in [0, 1]."""
    keys = list(dict.fromkeys(k for s in sweeps for k in s.keys))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["suite", "sweep", "method", *keys, "validation_accuracy", "chosen", "candidates", "epochs", "ends", "trials"]
    )
    for sweep in sweeps:
        for tried in sweep.tried:
            values = dict(tried.settings)
            ends = "; ".join(f"{n} {status}" for status, n in tried.ends)
            accuracy = "" if tried.accuracy is None else tried.accuracy
            fixed = [sweep.suite, sweep.label, sweep.norm, *(values.get(k, "") for k in keys)]
            writer.writerow(
                [
                    *map(harmless, fixed),
                    accuracy,
                    "yes" if tried.chosen else "no",
                    len(tried.trials),
                    tried.epochs,
                    ends,
                    " ".join(map(harmless, tried.trials)),
                ]
            )
    return out.getvalue()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
