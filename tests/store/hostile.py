"""Shards that are whole and sealed, and hold what no result holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from normbench.store.schema import SCHEMA
from normbench.store.store import to_bytes

Row = dict[str, Any]
NO_UTF8 = b"caf\xe9 \xff"
HUGE = 2**63 - 1
DEEP = "[" * 100_000


def content(row: Row) -> bytes:
    """A sealed shard of a row. Bytes stand for text that is no UTF-8."""
    return to_bytes(table(row))


def table(row: Row) -> pa.Table:
    columns = []
    for field in SCHEMA:
        value = row[field.name]
        if pa.types.is_string(field.type) and isinstance(value, bytes):
            columns.append(pa.Array.from_buffers(field.type, 1, pa.array([value]).buffers()))
        elif pa.types.is_timestamp(field.type) and isinstance(value, int):
            columns.append(pa.array([value], pa.int64()).cast(field.type))
        else:
            columns.append(pa.array([value], field.type))
    return pa.table(columns, schema=SCHEMA)


def columns_of(kind: Callable[[pa.DataType], bool]) -> list[str]:
    return [f.name for f in SCHEMA if kind(f.type)]


def _item(column: str, **changed: Any) -> Callable[[Row], Row]:
    return lambda row: row | {column: [row[column][0] | changed, *row[column][1:]]}


def _set(**changed: Any) -> Callable[[Row], Row]:
    return lambda row: row | changed


#: What is done to a row, by the column that the message names.
ODD: list[tuple[str, Callable[[Row], Row]]] = [
    *((c, _set(**{c: NO_UTF8})) for c in columns_of(pa.types.is_string) if c not in {"suite", "trial_id"}),
    *(
        (c, _set(**{c: None}))
        for c in ("entry", "board", "identity", "identity_parts", "source", "spec", "dataset", "model", "width")
    ),
    *((c, _set(**{c: None})) for c in ("norm", "batch_size", "seed", "stage", "epochs", "lr", "status", "started")),
    *((c, _set(**{c: None})) for c in ("reason", "log", "epoch", "attacks", "robustness", "health", "curves")),
    *((c, _set(**{c: None})) for c in ("attempts", "audit", "provenance", "measure_seconds", "wall_seconds")),
    *((c, _set(**{c: "[]"})) for c in ("spec", "identity_parts", "audit", "provenance", "measure_seconds")),
    *((c, _set(**{c: DEEP})) for c in ("spec", "identity_parts", "audit", "provenance", "measure_seconds")),
    *((c, _set(**{c: '{"a":' * 30 + "1" + "}" * 30})) for c in ("audit", "provenance")),
    *((c, _set(**{c: "{"})) for c in ("spec", "identity_parts", "audit", "provenance", "measure_seconds")),
    *((c, _set(**{c: HUGE})) for c in columns_of(pa.types.is_integer)),
    *((c, _set(**{c: -1})) for c in columns_of(pa.types.is_integer)),
    *((c, _set(**{c: float("nan")})) for c in columns_of(pa.types.is_floating)),
    *((c, _set(**{c: float("inf")})) for c in columns_of(pa.types.is_floating)),
    ("test_total", _set(test_total=0)),
    ("clean_outcomes", _set(clean_outcomes=b"")),
    ("clean_outcomes", _set(clean_outcomes=None)),
    ("started", _set(started=253_402_300_800_000)),
    ("started", _set(started=HUGE)),
    ("started", _set(started=-HUGE)),
    ("status", _set(status="fine")),
    ("stage", _set(stage="[bold]")),
    ("norm", _set(norm="x" * 10_000_000)),
    ("audit", _set(audit='{"replaced":[null]}')),
    ("audit", _set(audit='{"scale_invariant":3}')),
    ("audit", _set(audit='{"parameters_before":1e999}')),
    ("audit", _set(audit='{"weights":' + "9" * 400 + "}")),
    ("audit", _set(audit='{"x":"\\ud800"}')),
    ("provenance", _set(provenance='{"tuned":["adversarial"]}')),
    ("provenance", _set(provenance='{"threads":"many"}')),
    ("provenance", _set(provenance='{"x":NaN}')),
    ("measure_seconds", _set(measure_seconds='{"x":"y"}')),
    ("identity_parts", _set(identity_parts='{"spec":"x","protocol":1,"code":[]}')),
    *((c, _set(**{c: [None]})) for c in ("attacks", "robustness", "health", "curves")),
    *(("attacks", _item("attacks", **{k: None})) for k in ("attack", "threat", "size", "correct", "total", "outcomes")),
    ("attacks", _item("attacks", total=0, correct=0, outcomes=b"")),
    ("attacks", _item("attacks", total=HUGE)),
    ("attacks", _item("attacks", outcomes=b"\xff")),
    ("attacks", _item("attacks", size=float("nan"))),
    ("attacks", _item("attacks", accuracy=float("-inf"))),
    *(("curves", _item("curves", **{k: None})) for k in ("step", "epoch", "measure", "layer")),
    ("curves", _item("curves", value=float("nan"))),
    ("curves", _item("curves", step=HUGE)),
]
