"""From the table of results to the rows that boards are made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

#: Rows turned into Python values at a time: enough to be quick, few enough to be small.
BATCH = 2000


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows for boards: without long columns, and of the curves only what boards read, filtered while still in
    columns.
    """
    light = table.drop_columns(
        [c for c in ("curves", "clean_outcomes", "robustness", "log", "audit", "provenance") if c in table.column_names]
    )
    for start in range(0, table.num_rows, BATCH):
        part = light.slice(start, BATCH)
        curves = [_whole_network(c) for c in table.column("curves").slice(start, BATCH).chunks]
        part = part.append_column("curves", pa.chunked_array(curves, table.schema.field("curves").type))
        yield from part.append_column("invariant", _invariant(table.column("audit").slice(start, BATCH))).to_pylist()


def _invariant(audits: pa.ChunkedArray) -> pa.Array:
    """How many weight tensors are scale-invariant, `20 of 21`, empty where it was not measured. Each distinct audit is
    read once.
    """
    encoded = audits.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts = []
    for text in encoded.dictionary.to_pylist():
        audit = json.loads(text or "{}")
        measured = audit.get("scale_invariant") is not None and audit.get("weights")
        texts.append(f"{len(audit['scale_invariant'])} of {audit['weights']}" if measured else "")
    return pa.array(texts, pa.string()).take(encoded.indices) if texts else pa.nulls(len(audits), pa.string())


def _whole_network(curves: pa.ListArray) -> pa.ListArray:
    """Of each list of readings, those of a weight norm of the whole network."""
    readings = curves.flatten()
    keep = pc.and_(pc.equal(readings.field("layer"), ""), pc.starts_with(readings.field("measure"), "weight-norm."))
    lengths = pc.fill_null(pc.list_value_length(curves), 0).to_numpy()
    ends = lengths.cumsum()
    kept = pc.cumulative_sum(keep.cast(pa.int32())).to_numpy() if len(readings) else lengths[:0]
    counts = [0, *(int(kept[end - 1]) if end else 0 for end in ends)]
    return pa.ListArray.from_arrays(pa.array(counts, pa.int32()), readings.filter(keep))
