"""Results as Parquet: one atomic shard a trial, `results/<suite>/<trial_id>.parquet`.

A shard holds one row with everything about a trial. It is written to a temporary name, flushed to disk and renamed, so that a reader meets a
whole shard or none, and a trial that is run again replaces its row in one step. Every shard carries the schema's version.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import BenchError
from benchmark.trial import Outcome, Trial

SCHEMA_VERSION = 2
_VERSION_KEY = b"normbench.schema_version"
_SEAL_KEY = b"normbench.sha256"
_NO_SEAL = b"0" * 64

_ATTACK = pa.struct(
    [
        ("attack", pa.string()),
        ("threat", pa.string()),
        ("size", pa.float64()),
        ("correct", pa.int64()),
        ("total", pa.int64()),
        ("accuracy", pa.float64()),
        ("outcomes", pa.binary()),
        ("seconds", pa.float64()),
        ("model_calls", pa.int64()),
        ("largest", pa.float64()),
    ]
)
_ROBUSTNESS = pa.struct(
    [
        ("attack", pa.string()),
        ("threat", pa.string()),
        ("sizes", pa.list_(pa.float64())),
        ("fell_at", pa.binary()),
        ("area", pa.float64()),
        ("median_size", pa.float64()),
    ]
)
_HEALTH = pa.struct([("check", pa.string()), ("passed", pa.bool_()), ("evidence", pa.string())])
_READING = pa.struct([("step", pa.int64()), ("epoch", pa.float64()), ("measure", pa.string()), ("layer", pa.string()), ("value", pa.float64())])

#: One row a trial. Accuracies are shares in [0, 1], times seconds, sizes pixel space; JSON columns are canonical JSON text.
SCHEMA = pa.schema(
    [
        ("suite", pa.string()),
        ("trial_id", pa.string()),
        ("identity", pa.string()),
        ("identity_parts", pa.string()),
        ("spec", pa.string()),
        ("dataset", pa.string()),
        ("model", pa.string()),
        ("stem", pa.string()),
        ("width", pa.float64()),
        ("norm", pa.string()),
        ("batch_size", pa.int64()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("epochs", pa.int64()),
        ("optimizer", pa.string()),
        ("lr", pa.float64()),
        ("weight_decay", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("log", pa.string()),
        ("epoch", pa.int64()),
        ("clean_correct", pa.int64()),
        ("test_total", pa.int64()),
        ("clean_accuracy", pa.float64()),
        ("clean_outcomes", pa.binary()),
        ("test_loss", pa.float64()),
        ("train_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("attacks", pa.list_(_ATTACK)),
        ("robustness", pa.list_(_ROBUSTNESS)),
        ("health", pa.list_(_HEALTH)),
        ("curves", pa.list_(_READING)),
        ("measure_seconds", pa.string()),
        ("attempts", pa.int64()),
        ("audit", pa.string()),
        ("provenance", pa.string()),
        ("started", pa.timestamp("ms", tz="UTC")),
        ("wall_seconds", pa.float64()),
        ("train_seconds", pa.float64()),
        ("images_per_second", pa.float64()),
        ("peak_memory", pa.int64()),
    ],
    metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

#: Everything but the long columns; what planning and the terminal's boards need.
BRIEF = tuple(n for n in SCHEMA.names if n not in {"curves", "clean_outcomes", "robustness", "log", "audit"})


class StoreError(BenchError):
    """A results folder or shard cannot be used; the message names it and says what to do."""


@dataclass
class Store:
    """The results folder `root`. `problems` collects shards that could not be read, by path, instead of hiding them."""

    root: Path
    problems: dict[str, str] = field(default_factory=dict)

    def write(self, suite: str, trial: Trial, identity: dict[str, Any], outcome: Outcome) -> Path:
        """Store one outcome; when this returns, it is on disk. `identity`: see `benchmark.identity.Identity`."""
        table = pa.Table.from_pylist([to_row(suite, trial, identity, outcome)], schema=SCHEMA)
        path = self.path(suite, trial.trial_id)
        try:
            write_atomically(path, to_bytes(table))
        except OSError as error:
            raise StoreError(f"cannot write the result of a trial to {path}: {error.strerror or error}") from error
        return path

    def path(self, suite: str, trial_id: str) -> Path:
        return self.root / suite / f"{trial_id}.parquet"

    def suites(self) -> list[str]:
        """Names of the suites that have results, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(d.name for d in self.root.iterdir() if d.is_dir() and any(d.glob("*.parquet")))

    def table(self, suites: Iterable[str] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """All readable rows of the given suites (default: all), ordered by suite and trial_id, restricted to `columns`."""
        paths = [p for s in (self.suites() if suites is None else suites) for p in sorted((self.root / s).glob("*.parquet"))]
        wanted = pa.schema([SCHEMA.field(c) for c in (SCHEMA.names if columns is None else columns)], metadata=SCHEMA.metadata)
        with ThreadPoolExecutor(max_workers=8) as pool:
            tables = [t for t in pool.map(lambda p: self._read(p, wanted), paths) if t is not None]
        return pa.concat_tables(tables) if tables else wanted.empty_table()

    def rows(self, suites: Iterable[str] | None = None, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of `table` as dictionaries."""
        yield from self.table(suites, columns).to_pylist()

    def row(self, path: Path) -> dict[str, Any] | None:
        """All of the row in one shard; None when it cannot be read, with the reason in `problems`."""
        table = self._read(path, SCHEMA)
        return None if table is None or table.num_rows != 1 else dict(table.to_pylist()[0])

    def _read(self, path: Path, wanted: pa.Schema) -> pa.Table | None:
        try:
            content = path.read_bytes()
            file = pq.ParquetFile(pa.BufferReader(content))
            version = int((file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"0"))
            if version != SCHEMA_VERSION:
                what = "is of a newer normbench: upgrade to read it" if version > SCHEMA_VERSION else "has no known schema version"
                raise StoreError(f"{what} (found {version}, this version reads {SCHEMA_VERSION})")
            if not is_sealed(content):
                raise StoreError("its checksum does not fit its content: it was damaged or changed after it was written")
            if missing := [n for n in wanted.names if n not in file.schema_arrow.names]:
                raise StoreError(f"it lacks the columns {', '.join(missing)}")
            return file.read(columns=wanted.names).cast(wanted)
        except (OSError, pa.ArrowException, StoreError, ValueError) as error:
            self.problems[str(path)] = " ".join(str(error).split())[:300]
            return None


def to_bytes(table: pa.Table) -> bytes:
    """A table of `SCHEMA` as a Parquet file that carries the SHA-256 of its own bytes (see `is_sealed`)."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, SCHEMA, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_SEAL_KEY.decode(): _NO_SEAL.decode()})
    content = buffer.getvalue()
    start = _seal_start(content)
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[start + len(_NO_SEAL) :]


def is_sealed(content: bytes) -> bool:
    """Does a file still have the bytes that were written?

    Parquet's own page checksums leave out the footer, where one flipped bit turns a number into a null. So the footer's metadata hold the SHA-256 of the
    whole file, computed with zeros in the place of the digest itself.
    """
    start = _seal_start(content)
    seal = content[start : start + len(_NO_SEAL)]
    return hashlib.sha256(content[:start] + _NO_SEAL + content[start + len(_NO_SEAL) :]).hexdigest().encode() == seal


def _seal_start(content: bytes) -> int:
    return content.rfind(_SEAL_KEY) + len(_SEAL_KEY) + 2  # Thrift: the key, then a field header and a length, a byte each


def to_row(suite: str, trial: Trial, identity: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Flatten a trial and its outcome into the columns of `SCHEMA`."""
    flat = {
        n: getattr(outcome, n)
        for n in SCHEMA.names
        if n in Outcome.model_fields and n not in {"status", "attacks", "robustness", "health", "curves", "measure_seconds", "audit", "provenance", "started"}
    }
    return flat | {
        "suite": suite,
        "trial_id": trial.trial_id,
        "identity": identity["hash"],
        "identity_parts": to_json({k: v for k, v in identity.items() if k != "hash"}),
        "spec": to_json(trial.model_dump(mode="json")),
        "dataset": trial.data.dataset,
        "model": trial.model.name,
        "stem": trial.model.stem,
        "width": trial.model.width,
        "norm": trial.norm_label,
        "batch_size": trial.batch_size,
        "seed": trial.seed,
        "stage": trial.stage,
        "epochs": trial.train.epochs,
        "optimizer": trial.train.optimizer,
        "lr": trial.train.lr,
        "weight_decay": trial.train.weight_decay,
        "status": outcome.status.value,
        "clean_accuracy": outcome.clean_accuracy,
        "attacks": [a.model_dump() | {"accuracy": a.accuracy} for a in outcome.attacks],
        "robustness": [c.model_dump() for c in outcome.robustness],
        "health": [h.model_dump() for h in outcome.health],
        "curves": [r.model_dump() for r in outcome.curves],
        "measure_seconds": to_json(outcome.measure_seconds),
        "audit": to_json(outcome.audit),
        "provenance": to_json(outcome.provenance),
        "started": datetime.fromtimestamp(outcome.started, UTC),
    }


def trial_of(row: dict[str, Any]) -> Trial:
    """The trial that a row was made from."""
    return Trial.model_validate_json(row["spec"])


def to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that after a crash at any moment either the old or the new content is there, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
