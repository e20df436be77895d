"""Labels of points in a crowd: further away, with a line to each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from normbench.pages.axes import CHARACTER, Axis
from normbench.pages.charts import LINE, Mark, drawn, meet, short

#: Pixels between a label and the end of the line to it.
GAP = 2


def callouts(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    width: int,
    height: int,
    placed: Sequence[dict[str, Any]],
    named: frozenset[str],
) -> list[dict[str, Any]]:
    """Labels of `named` marks that `place` left out: the nearest free place, and a line (`x0`, `y0`, `x1`, `y1`) from
    the point to it, in data units. Where nothing is free within the chart, the label is left out.
    """
    there = {p["label"] for p in placed}
    taken = drawn(marks, x, y, width, height)
    for p in placed:
        left, middle = x.pixel(p["x"], width), y.pixel(p["y"], height)
        taken.append((left, middle - LINE / 2, left + len(p["label"]) * CHARACTER, middle + LINE / 2))
    found = []
    for m in marks:
        text = short(m.label)
        if m.label not in named or text in there:
            continue
        px, py, w = x.pixel(m.x, width), y.pixel(m.y, height), len(text) * CHARACTER
        free = [
            (math.hypot(max(left - px, 0, px - left - w), middle - py), left, middle)
            for middle in range(LINE, height - LINE, LINE // 2)
            for left in range(0, int(width - w), 8)
            if not any(meet((left - 2, middle - LINE / 2, left + w + 2, middle + LINE / 2), o) for o in taken)
        ]
        if not free:
            continue
        _, left, middle = min(free)
        taken.append((left, middle - LINE / 2, left + w, middle + LINE / 2))
        end = min(max(px, left - GAP), left + w + GAP)
        near = min(max(py, middle - LINE / 2 - GAP), middle + LINE / 2 + GAP)
        found.append(
            {
                "label": text,
                "x": x.value(left, width),
                "y": y.value(middle, height),
                "x0": m.x,
                "y0": m.y,
                "x1": x.value(end, width),
                "y1": y.value(near, height),
            }
        )
    return found
