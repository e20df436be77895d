"""Figures of the study of batch and width: heat maps, curves over the ratio, the forest of contrasts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from normbench.pages.charts import Axis, Mark, fit, forest
from normbench.studies._charts import Series, Tile, around, beside, curves, heat
from normbench.studies._grid import Grid, Readings
from normbench.studies.base import Figure, Record, Verdict


def clean_accuracy(record: Record) -> float | None:
    return record.run.values.get("clean")


def figures(
    drawn: Sequence[tuple[Grid, Readings]], decided: Sequence[tuple[Grid, Readings, Verdict]]
) -> Iterable[Figure]:
    maps = [_heat(g, r) for g, r in drawn]
    yield Figure(
        "map",
        "Clean accuracy by batch and width",
        "Means over seeds in %. Outlined: batch nearest to the width. Grey: not run, or nothing left.",
        beside(maps, 2),
    )
    panels = [p for g, _ in drawn if (p := _curves(g))]
    if panels:
        caption = (
            "Mean over seeds against log2(batch / width), one line a width; bars from the smallest to the "
            "largest seed. Dashed: batch = width."
        )
        yield Figure("ratio", "Clean accuracy against batch over width", caption, beside(panels, 2))
    marks = [
        Mark(
            f"{g.label}: {what}",
            g.records[0].family,
            100 * e.value,
            0.0,
            100 * e.low if e.low is not None else None,
            100 * e.high if e.high is not None else None,
        )
        for g, r, _ in decided
        for what, e in (("neighbours", r.neighbours), ("matched", r.matched))
        if e is not None
    ]
    if marks:
        ends = [0.0, *(v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None)]
        caption = "Both contrasts of every method with 95 % intervals over seeds; 0: the matching batch is not special."
        yield Figure(
            "forest",
            "Matching batch less others",
            caption,
            forest(marks, fit(ends, "Clean accuracy (percentage points)")),
            tuple(m.family for m in marks),
        )


def _heat(grid: Grid, readings: Readings) -> dict[str, object]:
    matching = grid.matching("first")
    names = [f"×{w:g} ({grid.width(w, 'first') or '?'})" for w in grid.widths]
    tiles = []
    for i, name in enumerate(names):
        for j, batch in enumerate(grid.batches):
            value = readings.resampled.means[i, j]
            there = bool(np.isfinite(value))
            lost = (grid.widths[i], batch) in grid.cells and not there
            tiles.append(
                Tile(
                    str(batch),
                    name,
                    float(value) if there else None,
                    f"{100 * value:.1f}" if there else "failed" if lost else "",
                    matching.get(i) == j,
                )
            )
    return heat(
        grid.label,
        tiles,
        ("Batch of the norm" if grid.design == "norm" else "Batch", [str(b) for b in grid.batches]),
        ("Width (channels)", names[::-1]),
    )


def _curves(grid: Grid) -> dict[str, object] | None:
    values = 100 * grid.values(clean_accuracy)
    series = []
    for i, multiplier in enumerate(grid.widths):
        channels = grid.width(multiplier, "first")
        if channels is None:
            continue
        spread = [v[np.isfinite(v)] for v in values[i].T]
        line = tuple(
            (
                math.log2(b / channels),
                float(v.mean()),
                *((float(v.min()), float(v.max())) if len(v) > 1 else (None, None)),
            )
            for b, v in zip(grid.batches, spread, strict=True)
            if len(v)
        )
        if line:
            series.append(Series(f"{channels} channels", line))
    if not series:
        return None
    x = around(series, "log2(batch / width)", which=0)
    y = around(series, "Clean accuracy (%)", which=1)
    return curves(grid.label, series, Axis(x.title, x.low, x.high), y, mark=0.0)
