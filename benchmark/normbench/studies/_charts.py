"""Charts of studies as Vega-Lite specifications, in the manner of `normbench.pages.charts`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normbench.pages.charts import GHOST, INK, PAPER, SOFT, Axis, base, fit

#: Colours of series that belong to no family, with their shapes.
SERIES = (
    ("#0072b2", "circle"),
    ("#b35c00", "square"),
    ("#00805e", "triangle-up"),
    ("#b0478c", "diamond"),
    ("#454d56", "cross"),
)
#: Opacity of the smallest and the largest value of a heat map: text stands out on both, in both themes.
FAINT, STRONG = 0.04, 0.5


@dataclass(frozen=True)
class Tile:
    """A cell of a heat map; `value` None where nothing was run or nothing was left."""

    x: str
    y: str
    value: float | None
    text: str
    outlined: bool = False


def heat(
    title: str,
    tiles: Sequence[Tile],
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]],
    *,
    cell: tuple[int, int] = (58, 30),
) -> dict[str, Any]:
    """One map: titles and values of both axes, in order. Cells without a value are grey and hold no number; nothing is
    interpolated.
    """
    values = [t.value for t in tiles if t.value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    data = [
        {
            "x": t.x,
            "y": t.y,
            "text": t.text,
            "strength": STRONG if high == low else FAINT + (STRONG - FAINT) * (t.value - low) / (high - low),
        }
        for t in tiles
        if t.value is not None
    ]
    empty = [{"x": t.x, "y": t.y, "text": t.text} for t in tiles if t.value is None]
    marked = [{"x": t.x, "y": t.y} for t in tiles if t.outlined]
    axes = {
        "x": {
            "field": "x",
            "type": "nominal",
            "sort": list(x[1]),
            "axis": {"title": x[0], "labelAngle": 0, "ticks": False, "domain": False},
        },
        "y": {
            "field": "y",
            "type": "nominal",
            "sort": list(y[1]),
            "axis": {"title": y[0], "ticks": False, "domain": False},
        },
    }
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": data},
            "mark": {"type": "rect", "color": SERIES[0][0]},
            "encoding": {
                **axes,
                "opacity": {"field": "strength", "type": "quantitative", "scale": None, "legend": None},
            },
        },
        {"data": {"values": empty}, "mark": {"type": "rect", "color": GHOST, "opacity": 0.35}, "encoding": axes},
        {
            "data": {"values": marked},
            "mark": {"type": "rect", "filled": False, "stroke": INK, "strokeWidth": 2},
            "encoding": axes,
        },
        {
            "data": {"values": data + empty},
            "mark": {"type": "text", "fontSize": 11, "color": INK},
            "encoding": {**axes, "text": {"field": "text"}},
        },
    ]
    return {
        "title": {"text": title},
        "width": cell[0] * len(x[1]),
        "height": cell[1] * len(y[1]),
        "layer": [layer for layer in layers if layer["data"]["values"]],
    }


def beside(charts: Sequence[dict[str, Any]], columns: int = 3) -> dict[str, Any]:
    """Charts in rows of so many."""
    rows = [list(charts[i : i + columns]) for i in range(0, len(charts), columns)]
    return base(
        vconcat=[{"hconcat": row, "spacing": 26} for row in rows],
        spacing=26,
        resolve={"scale": {"x": "independent", "y": "independent"}},
    )


@dataclass(frozen=True)
class Series:
    """A line with its interval at each point: (x, y, low, high), the interval left out where low is None."""

    label: str
    points: tuple[tuple[float, float, float | None, float | None], ...]


def curves(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    mark: float | None = None,
    width: int = 235,
    height: int = 190,
) -> dict[str, Any]:
    """One panel: series with intervals, told apart by colour and shape; a dashed line at `mark` on the x axis."""
    layers: list[dict[str, Any]] = []
    if mark is not None and x.low <= mark <= x.high:
        layers.append(
            {
                "data": {"values": [{"x": mark}]},
                "mark": {"type": "rule", "color": SOFT, "strokeDash": [4, 3]},
                "encoding": {"x": x.encode("x")},
            }
        )
    for i, one in enumerate(series):
        stroke, shape = SERIES[i % len(SERIES)]
        data = [{"x": px, "y": py, "low": low, "high": high} for px, py, low, high in one.points]
        spread = [d for d in data if d["low"] is not None]
        here = {"x": x.encode("x"), "y": y.encode("y")}
        layers.append(
            {
                "data": {"values": data},
                "mark": {"type": "line", "color": stroke, "strokeWidth": 1.5, "clip": True},
                "encoding": here,
            }
        )
        if spread:
            bar = {"x": x.encode("x"), "y": y.encode("low"), "y2": {"field": "high"}}
            layers.append(
                {
                    "data": {"values": spread},
                    "mark": {"type": "rule", "color": stroke, "opacity": 0.6, "clip": True},
                    "encoding": bar,
                }
            )
        point = {
            "type": "point",
            "filled": True,
            "size": 55,
            "opacity": 1,
            "color": stroke,
            "shape": shape,
            "stroke": PAPER,
            "strokeWidth": 0.6,
        }
        layers.append({"data": {"values": data}, "mark": point, "encoding": here})
    return {
        "title": {"text": title},
        "width": width,
        "height": height,
        "layer": layers + _key(series, x, y, width, height),
    }


def _key(series: Sequence[Series], x: Axis, y: Axis, width: int, height: int) -> list[dict[str, Any]]:
    """Labels of the series, one a line to the right of the panel, with their shapes."""
    if len(series) < 2:
        return []
    layers = []
    for i, one in enumerate(series):
        stroke, shape = SERIES[i % len(SERIES)]
        at = {"x": x.value(width + 12, width), "y": y.value(height - 8 - 15 * i, height), "label": one.label[:18]}
        here = {"x": x.encode("x"), "y": y.encode("y")}
        layers.append(
            {
                "data": {"values": [at]},
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1, "color": stroke, "shape": shape},
                "encoding": here,
            }
        )
        text = {"type": "text", "align": "left", "baseline": "middle", "dx": 8, "fontSize": 11, "color": INK}
        layers.append({"data": {"values": [at]}, "mark": text, "encoding": {**here, "text": {"field": "label"}}})
    return layers


def around(series: Sequence[Series], title: str, *, which: int, log: bool = False) -> Axis:
    """An axis around all points of series: of x (which 0), or of y with its intervals (which 1)."""
    values = (
        [p[0] for s in series for p in s.points]
        if which == 0
        else [v for s in series for p in s.points for v in p[1:] if v is not None]
    )
    return fit(values, title, log=log and min(values) > 0)


def octaves(values: Sequence[float]) -> tuple[float, ...]:
    """Whole numbers that span `values`, for ticks of a log2 axis."""
    return tuple(float(v) for v in range(math.ceil(min(values)), math.floor(max(values)) + 1))
