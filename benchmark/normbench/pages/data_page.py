"""The results to take away: all of them, those of each suite and each board, the schema, checksums."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import normbench
from normbench.board import Board, boards_json, slugify
from normbench.board.sheets import harmless
from normbench.board.tuning import Sweep
from normbench.pages.context import Context
from normbench.pages.writer import Feed
from normbench.store.schema import SCHEMA, SCHEMA_VERSION
from normbench.store.store import to_bytes

#: What the columns of a row hold, where the name does not say it all.
COLUMNS = {
    "suite": "suite file that the trial was run for",
    "trial_id": "first 16 digits of the SHA-256 of the specification",
    "entry": "the same for trials that differ in nothing but the seed",
    "board": "the same for trials of one test, network and batch size; boards also keep budgets and devices apart",
    "identity": "hash of all that decides the result: specification, data, code, protocol, versions",
    "identity_parts": "the parts of the identity, JSON",
    "content": "fingerprint of the images and labels",
    "source": "hash of what else decides the result: code, libraries, data",
    "device_class": "cpu, or the name of the GPU",
    "precision": "of training",
    "spec": "resolved specification, JSON",
    "dataset": "name of the dataset",
    "model": "network, as timm names it, with its arguments",
    "stem": "the network's first layers: as built, or fitted to small images",
    "width": "multiplier of the channel numbers",
    "norm": "the method as written, such as ws+gn[groups=8]",
    "batch_size": "training images a step",
    "seed": "decides the initial weights, the order of the images, augmentation and noise",
    "stage": "final; or tuning: a candidate, which was judged on held-out training images and saw no test image",
    "epochs": "passes over the training images that were asked for",
    "optimizer": "name of the optimizer",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "status": "ok, diverged, out_of_memory, timed_out, error, killed, or stopped: a candidate that its scheduler "
    "gave up early",
    "reason": "why it failed, one line",
    "log": "last lines of a failed trial",
    "epoch": "finished epochs",
    "clean_correct": "test images that are classified correctly",
    "test_total": "test images",
    "clean_accuracy": "share of test images that are classified correctly",
    "clean_outcomes": "packed bits, one a test image: 1 = correct",
    "test_loss": "mean cross-entropy over the test images",
    "train_loss": "mean over the last epoch",
    "validation_accuracy": "share of the held-out training images that are classified correctly, after the last epoch",
    "attacks": "one struct for each attack and size: accuracy, packed outcomes, seconds, model calls; sizes in "
    "pixel space",
    "robustness": "worst cases over the attacks within one ball, one struct for each size",
    "health": "checks on the robustness numbers: name, whether it passed, the evidence",
    "curves": "long form: step, epoch, measure, layer (empty: whole network), value",
    "measure_seconds": "seconds that each measure took, JSON",
    "attempts": "how often it was started until it ended",
    "audit": "what the swap of layers did, JSON",
    "provenance": "commit, versions, device, JSON",
    "started": "when it began, UTC",
    "wall_seconds": "of the whole trial",
    "train_seconds": "of training alone",
    "images_per_second": "training images divided by training seconds",
    "peak_memory": "bytes: of the GPU where one was used, else of the process",
}


#: What a board's JSON holds, for the page that documents it: key, meaning.
FEED = (
    ("version, data_version, date", "of normbench, of the results, and the day of the latest of them"),
    ("board, title, dataset, model, ...", "which board it is, and what all of its entries share"),
    ("entries", "one object for each method and setting"),
    ("entries[].entry, label, norm, status", "its id, its name as shown, the method as written, how its trials ended"),
    ("entries[].metrics", "by key: label, value (mean over n seeds), low and high, rank as [best, worst] or null"),
    ("entries[].trials", "each seed's trial: its id, seed, status and level of trust"),
)


def write(context: Context) -> None:
    """Write data.html; under `data/` one Parquet file of all results, one for each suite, a Parquet and a CSV file for
    each board; under `boards/` a JSON file for each board and one that lists them.
    """
    results = context.results
    everything = pa.concat_tables([results.table, results.candidates])
    whole = [_whole(context, everything)] if everything.num_rows else []
    names = sorted(pc.unique(everything.column("suite")).to_pylist())
    suites = [_of_suite(context, name, everything) for name in names if len(names) > 1]
    boards = [_of_board(context, board) for board in results.boards]
    if results.sweeps:
        content = {"csv": sweeps_csv(results.sweeps).encode(), "parquet": to_bytes(results.candidates)}
        name = "data/tuning.candidates"
        boards.append(_group(context, "Candidates of tuning", name, content, results.candidates.num_rows))
    files = [f for group in (*whole, *suites, *boards) for f in group.files]
    sums = "".join(f"{f.sha256}  {f.href.removeprefix('data/')}\n" for f in files if f.href.startswith("data/"))
    context.writer.text("data/SHA256SUMS", sums)
    listed = [{"title": b.title, "json": f"{b.slug}.json"} for b in results.boards]
    context.writer.text("boards/index.json", _json(_told(context) | {"boards": listed}))
    context.writer.page(
        "data.html",
        "data.html",
        title="Data",
        description=f"All {everything.num_rows:,} results as Parquet; boards as CSV and JSON; schema and checksums.",
        feeds=[("boards/index.json", "application/json", "All boards as JSON")],
        whole=whole,
        suites=suites,
        boards=boards,
        schema=[
            (
                field.name,
                str(field.type) if not pa.types.is_nested(field.type) else "list of structs",
                COLUMNS.get(field.name, ""),
            )
            for field in SCHEMA
        ],
        schema_version=SCHEMA_VERSION,
        feed=FEED,
        bibtex=_bibtex(context),
        problems=sorted(results.problems.items()),
    )


@dataclass(frozen=True)
class File:
    """One file to take away."""

    href: str
    kind: str
    size: str
    sha256: str


@dataclass(frozen=True)
class Files:
    """Files that hold the same trials."""

    title: str
    trials: int
    files: tuple[File, ...]


_KINDS = {"csv": "CSV", "parquet": "Parquet", "json": "JSON"}


def _group(context: Context, title: str, path: str, contents: Mapping[str, bytes], trials: int) -> Files:
    """Write `path`.csv and the like."""
    return Files(title, trials, tuple(_file(context, f"{path}.{end}", content) for end, content in contents.items()))


def _file(context: Context, href: str, content: bytes) -> File:
    context.writer.bytes(href, content)
    count = len(content)
    size = f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
    return File(href, _KINDS[href.rpartition(".")[2]], size, hashlib.sha256(content).hexdigest())


def _whole(context: Context, everything: pa.Table) -> Files:
    return _group(context, "All results", "data/all", {"parquet": to_bytes(everything)}, everything.num_rows)


def _of_suite(context: Context, suite: str, everything: pa.Table) -> Files:
    part = everything.filter(pc.equal(everything.column("suite"), suite))
    return _group(context, suite, f"data/suite-{slugify(suite, 64)}", {"parquet": to_bytes(part)}, part.num_rows)


def _of_board(context: Context, board: Board) -> Files:
    """CSV and Parquet under `data/`, JSON under `boards/`."""
    trials = [r.trial_id for e in board.entries for r in e.runs]
    table = context.results.table.take(pa.array([context.results.position[t] for t in trials]))
    content = {"csv": board_csv(board).encode(), "parquet": to_bytes(table)}
    found = _group(context, board.title, f"data/{board.slug}", content, table.num_rows)
    told = _json(_told(context) | boards_json([board])[0]).encode()
    return replace(found, files=(*found.files, _file(context, feed(board)[0], told)))


def feed(board: Board) -> Feed:
    """The JSON of a board, for the head of a page that shows it."""
    return f"boards/{board.slug}.json", "application/json", f"{board.title} as JSON"


def _told(context: Context) -> dict[str, Any]:
    results = context.results
    return {"version": normbench.__version__, "data_version": results.version, "date": results.date}


def _bibtex(context: Context) -> str:
    results, origin = context.results, context.origin
    latest = f", latest result {results.date}" if results.date else ""
    fields = {
        "author": "{The NormBench contributors}",
        "title": "{NormBench}: what a normalization layer does to a network",
        "year": results.date[:4],
        "url": origin.address or origin.repository,
        "note": f"Version {normbench.__version__}, data version {results.version}{latest}",
    }
    lines = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items() if value)
    return f"@misc{{normbench,\n{lines}\n}}"


def _json(value: object) -> str:
    # Without line breaks: with them Python writes JSON in Python, which took a tenth of a large site's build.
    return f"{json.dumps(value, allow_nan=False, ensure_ascii=False)}\n"


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
