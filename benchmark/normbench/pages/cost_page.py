"""What methods cost, beside batch norm: a table and a chart for each machine that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.board import slugify
from normbench.pages.charts import Mark, fit, forest
from normbench.pages.context import Context
from normbench.pages.methods import Method, key_of
from normbench.pages.svg import Chart, draw
from normbench.spec.cost import REFERENCE, Cost, Costs, Timing

#: A processor that this many processes wanted while its costs were measured was not idle.
BUSY = 2.0
_WORDS = {"layer": "Layer", "network": "Network"}


def write(context: Context, costs: Sequence[Costs]) -> None:
    """Write cost.html, where something was measured."""
    if not costs:
        return
    by_label = {e.norm: context.methods[key_of(e)] for b in context.results.boards for e in b.entries}
    context.writer.page(
        "cost.html",
        "cost.html",
        title="Cost",
        reference=REFERENCE,
        machines=[_machine(context, i, c, context.methods | by_label) for i, c in enumerate(costs)],
    )


def _machine(context: Context, position: int, costs: Costs, methods: Mapping[str, Method]) -> dict[str, Any]:
    rows = sorted(costs.methods.values(), key=lambda row: (row.method != REFERENCE, row.method))
    cases = list(dict.fromkeys((t.what, t.shape) for row in rows for t in row.timings))
    steps = {c: list(dict.fromkeys(t.step for r in rows for t in r.timings if (t.what, t.shape) == c)) for c in cases}
    columns = [(*case, step) for case in cases for step in steps[case]]
    chart = _chart(context, position, costs, rows)
    return {
        "id": f"machine-{position}-{slugify(costs.device, 40)}",
        "device": costs.device,
        "facts": [(k.replace("_", " "), str(v)) for k, v in sorted(costs.machine.items()) if k != "device"],
        "rounds": " or ".join(sorted({str(row.rounds) for row in rows})),
        "busy": sum(row.load is not None and row.load > BUSY for row in rows),
        "heads": [(f"{_WORDS[what]} {shape}", len(steps[what, shape]) + 1) for what, shape in cases],
        "steps": [name for case in cases for name in (*steps[case], "kept")],
        "rows": [_row(row, cases, steps, methods.get(row.method)) for row in rows],
        "failed": [(row.method, case, why) for row in rows for case, why in row.failed.items()],
        "charts": [chart] if chart else [],
        "columns": len(columns),
    }


def _row(row: Cost, cases: Sequence[Any], steps: Mapping[Any, Sequence[Any]], method: Method | None) -> dict[str, Any]:
    timed = {(t.what, t.shape, t.step): t for t in row.timings}
    kept = {(k.what, k.shape): k for k in row.kept}
    cells: list[tuple[str, str]] = []
    for case in cases:
        cells += [_cell(timed.get((*case, step))) for step in steps[case]]
        memory = kept.get(case)
        share = f"{memory.bytes / memory.reference:.2f}" if memory and memory.reference else "–"
        cells.append((share, f"{memory.bytes / 2**20:,.1f} MiB" if memory else "not measured"))
    return {"label": row.method, "method": method, "cells": cells}


def _cell(timing: Timing | None) -> tuple[str, str]:
    if timing is None:
        return "–", "not measured"
    spread = f"95 % interval of the median {timing.low:.2f} to {timing.high:.2f}"
    return f"{timing.ratio:.2f}", f"{spread}; {1000 * timing.seconds:.3g} ms, {1000 * timing.reference:.3g} ms"


def _chart(context: Context, position: int, costs: Costs, rows: Sequence[Cost]) -> Chart | None:
    """A whole training step at the largest batch, in percent over that with batch norm."""
    steps = [(row, t) for row in rows if row.method != REFERENCE for t in row.timings if t.step == "training"]
    if not steps:
        return None
    largest = max((t.reference, t.shape) for _, t in steps)[1]
    chosen = sorted(((r, t) for r, t in steps if t.shape == largest), key=lambda pair: pair[1].ratio)
    marks = [Mark(r.method, r.family, _over(t.ratio), 0.0, _over(t.low), _over(t.high)) for r, t in chosen]
    ends = [0.0, *(v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None)]
    caption = (
        f"{costs.device}. Time of a training step of a ResNet-18 of a quarter of the width, input {largest}, over that "
        f"with {REFERENCE}, measured in turns. Bars are 95 % intervals of the median; the line is {REFERENCE}."
    )
    axis = fit(ends, f"Longer than with {REFERENCE} (%)")
    title = "A training step, against batch norm"
    return draw(context, f"cost-{position}-step", title, caption, forest(marks, axis), [m.family for m in marks])


def _over(ratio: float) -> float:
    return 100 * (ratio - 1)
