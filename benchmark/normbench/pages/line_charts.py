"""Charts of lines, as specifications: small multiples side by side, labels at the ends of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from normbench.pages.axes import Axis
from normbench.pages.charts import FAMILY, GHOST, INK, LINE, SOFT, Line, base, colour, short


def facets(
    lines: Sequence[Line], x: Axis, y: Axis, *, mark: float | None = None, width: int = 200, height: int = 210
) -> dict[str, Any]:
    """One panel a family with its lines in colour and all others in grey; names at the ends of lines. mark: where on
    the x axis an upright line stands.
    """
    names = [f for f in FAMILY if any(line.family == f for line in lines)] + sorted(
        {line.family for line in lines} - FAMILY.keys()
    )
    panels = []
    for position, family in enumerate(names):
        own = [line for line in lines if line.family == family]
        others = [line for line in lines if line.family != family]
        yaxis = {} if position == 0 else {"title": None, "labels": False, "ticks": False}
        layers = [_upright(mark, x)] if mark is not None else []
        if others:
            layers.append(_lines(others, x, y, yaxis, GHOST, 1.0, band=False))
        layers.append(_lines(own, x, y, yaxis, colour(family), 2.0, band=True))
        ends = _dodged([(short(line.label), y.pixel(line.points[-1][1], height)) for line in own], height)
        layers.append(
            {
                "data": {"values": [{"label": text, "x": x.high, "y": y.value(pixel, height)} for text, pixel in ends]},
                "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 6, "fontSize": 11, "color": INK},
                "encoding": {"x": x.encode("x"), "y": y.encode("y", **yaxis), "text": {"field": "label"}},
            }
        )
        panels.append(
            {
                "width": width,
                "height": height,
                "title": {"text": family[:1].upper() + family[1:]},
                "layer": _flatten(layers),
            }
        )
    return base(hconcat=panels, spacing=14)


def _lines(
    lines: Sequence[Line], x: Axis, y: Axis, yaxis: dict[str, Any], stroke: str, width: float, *, band: bool
) -> dict[str, Any]:
    data = [
        {"label": line.label, "x": px, "y": py, "low": low, "high": high, "dash": line.dashed}
        for line in lines
        for px, py, low, high in line.points
    ]
    dash = {
        "field": "dash",
        "type": "nominal",
        "scale": {"domain": [False, True], "range": [[1, 0], [5, 3]]},
        "legend": None,
    }
    layers: list[dict[str, Any]] = []
    if band and any(d["low"] is not None for d in data):
        layers.append(
            {
                "data": {"values": [d for d in data if d["low"] is not None]},
                "mark": {"type": "area", "color": stroke, "opacity": 0.16, "clip": True},
                "encoding": {
                    "x": x.encode("x"),
                    "y": y.encode("low", **yaxis),
                    "y2": {"field": "high"},
                    "detail": {"field": "label"},
                },
            }
        )
    layers.append(
        {
            "data": {"values": data},
            "mark": {"type": "line", "color": stroke, "strokeWidth": width, "clip": True},
            "encoding": {
                "x": x.encode("x"),
                "y": y.encode("y", **yaxis),
                "detail": {"field": "label"},
                "strokeDash": dash,
            }
            | (
                {
                    "tooltip": [
                        {"field": "label", "title": "Method"},
                        {"field": "x", "title": x.title},
                        {"field": "y", "title": y.title, "format": ".3f"},
                    ]
                }
                if band
                else {}
            ),
        }
    )
    return {"layer": layers}


def _upright(value: float, x: Axis) -> dict[str, Any]:
    return {
        "data": {"values": [{"x": value}]},
        "mark": {"type": "rule", "color": SOFT, "strokeDash": [2, 3]},
        "encoding": {"x": x.encode("x")},
    }


def _flatten(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [inner for layer in layers for inner in layer.get("layer", [layer])]


def _dodged(ends: Sequence[tuple[str, float]], height: float) -> list[tuple[str, float]]:
    """Labels at heights (pixels upwards) moved apart so that none overlaps, within the panel as far as they fit."""
    placed: list[tuple[str, float]] = []
    for text, pixel in sorted(ends, key=lambda e: e[1]):
        low = placed[-1][1] + LINE if placed else 0.0
        placed.append((text, max(pixel, low)))
    excess = placed[-1][1] - height if placed else 0.0
    for i in range(len(placed) - 1, -1, -1):
        if excess > 0:
            ceiling = placed[i + 1][1] - LINE if i + 1 < len(placed) else height
            placed[i] = (placed[i][0], min(placed[i][1], ceiling))
    return placed


def panels(
    groups: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[tuple[float, float]]]], Axis, Axis]],
    *,
    width: int = 250,
    height: int = 180,
) -> dict[str, Any]:
    """Panels side by side: title, series of (label, colour, points), and both axes. A series without a label stays in
    the background.
    """
    made = []
    for title, series, x, y in groups:
        layers: list[dict[str, Any]] = []
        for label, stroke, points in series:
            layers.append(
                {
                    "data": {"values": [{"x": px, "y": py} for px, py in points]},
                    "mark": {
                        "type": "line",
                        "color": stroke,
                        "strokeWidth": 2 if label else 1,
                        "clip": True,
                        "point": {"size": 14, "filled": True, "color": stroke} if label else False,
                    },
                    "encoding": {"x": x.encode("x"), "y": y.encode("y")},
                }
            )
        ends = _dodged(
            [(short(label), y.pixel(points[-1][1], height)) for label, _, points in series if label and points], height
        )
        values = [{"label": text, "x": x.high, "y": y.value(pixel, height)} for text, pixel in ends]
        layers.append(
            {
                "data": {"values": values},
                "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 6, "fontSize": 11, "color": INK},
                "encoding": {"x": x.encode("x"), "y": y.encode("y"), "text": {"field": "label"}},
            }
        )
        made.append({"width": width, "height": height, "title": {"text": title}, "layer": layers})
    return base(hconcat=made, spacing=24)
