"""From the table of results to the rows that boards are made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from normbench.spec.trial import BUDGET_DATA

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
        told = [absent(text) for text in _naming_absent(table.column("provenance").slice(start, BATCH))]
        found = _audited(table.column("audit").slice(start, BATCH))
        for name, values in zip(AUDITED, found.flatten(), strict=True):
            part = part.append_column(name, values)
        for row, reasons in zip(part.to_pylist(), told, strict=True):
            yield row | {"absent": reasons}


def budget(spec: Mapping[str, Any]) -> list[Any]:
    """How long a network trains, and on which images: more of either may do more than a method does. What a suite may
    choose for each method (the rate, the decay, the optimizer, ...) is no part of it.
    """
    return [spec["train"]["epochs"], *(spec["data"].get(k) for k in BUDGET_DATA)]


#: What boards read of an audit, in place of the audit.
AUDITED = ("invariant", "layers", "parameters")
_AUDIT = pa.struct([("invariant", pa.string()), ("layers", pa.int64()), ("parameters", pa.list_(pa.int64()))])


@lru_cache(1024)
def audited(text: str | None) -> dict[str, Any]:
    """What boards read of a trial's audit (JSON). `invariant`: how many weight tensors are scale-invariant, `20 of 21`,
    empty where it was not measured; `layers`: convolutions and linear layers, None where they were not counted;
    `parameters`: before and after the swap, None where they were not.
    """
    audit = json.loads(text or "{}")
    invariant, layers = audit.get("scale_invariant"), audit.get("weights") or None
    parameters = [audit.get(f"parameters_{when}") for when in ("before", "after")]
    return {
        "invariant": f"{len(invariant)} of {layers}" if invariant is not None and layers else "",
        "layers": layers,
        "parameters": parameters if all(isinstance(n, int) for n in parameters) else None,
    }


#: Where a trial's provenance says by which statistics it has no numbers.
ABSENT = "statistics_absent"


def absent(provenance: str | None) -> dict[str, str]:
    """By which statistics a trial has no numbers, and why, of its provenance (JSON)."""
    found = json.loads(provenance).get(ABSENT) if provenance and ABSENT in provenance else None
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _naming_absent(provenances: pa.ChunkedArray) -> list[str | None]:
    """The provenances that name such statistics, None in the place of the others: most are not worth reading."""
    named = pc.match_substring(provenances, ABSENT)
    found: list[str | None] = pc.if_else(named, provenances, pa.scalar(None, pa.string())).to_pylist()
    return found


def _audited(audits: pa.ChunkedArray) -> pa.StructArray:
    """`audited` of each row. Each distinct audit is read once."""
    encoded = audits.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    read = pa.array([audited(text) for text in encoded.dictionary.to_pylist()] + [audited(None)], _AUDIT)
    return read.take(encoded.indices.fill_null(len(encoded.dictionary)))


def _whole_network(curves: pa.ListArray) -> pa.ListArray:
    """Of each list of readings, those of a weight norm of the whole network."""
    readings = curves.flatten()
    keep = pc.and_(pc.equal(readings.field("layer"), ""), pc.starts_with(readings.field("measure"), "weight-norm."))
    lengths = pc.fill_null(pc.list_value_length(curves), 0).to_numpy()
    ends = lengths.cumsum()
    kept = pc.cumulative_sum(keep.cast(pa.int32())).to_numpy() if len(readings) else lengths[:0]
    counts = [0, *(int(kept[end - 1]) if end else 0 for end in ends)]
    return pa.ListArray.from_arrays(pa.array(counts, pa.int32()), readings.filter(keep))
