"""Charts as Vega-Lite specifications: plain dictionaries with literal colours, from plain values.

One specification serves all: drawn to SVG when the site is built, to PDF and PNG for download, and live in the page
behind "Explore". Scales are explicit, so that labels can be placed here, where they do not overlap, and stay there in
every rendering.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.pages.axes import CHARACTER
from normbench.pages.axes import Axis as Axis  # studies draw by this module
from normbench.pages.axes import fit as fit

PAPER, INK, SOFT, GRID, GHOST = "#ffffff", "#14181d", "#55606c", "#e3e8ed", "#c3cad1"
#: Family -> colour and shape. After Okabe and Ito (2008), darkened to at least 3:1 on white; shapes carry the same
#: information.
FAMILY = {
    "batch statistics": ("#0072b2", "circle"),
    "sample statistics": ("#b35c00", "square"),
    "weight": ("#00805e", "triangle-up"),
    "whitening": ("#b0478c", "diamond"),
    "no statistics": ("#454d56", "cross"),
}
OTHER = ("#454d56", "triangle-down")
#: Literal colour -> variable of the style sheet, for the SVG that stands in a page and follows its theme.
VARIABLES = {
    PAPER: "--paper",
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    GHOST: "--ghost",
    "#0072b2": "--batch",
    "#b35c00": "--sample",
    "#00805e": "--weight",
    "#b0478c": "--whitening",
    "#454d56": "--plain",
}
#: Pixels that a line of labels takes at 11 px.
LINE = 13
LABEL_LIMIT = 34


def colour(family: str) -> str:
    return FAMILY.get(family, OTHER)[0]


@dataclass(frozen=True)
class Mark:
    """One entry in a scatter or forest plot; x and y with optional interval ends."""

    label: str
    family: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None


@dataclass(frozen=True)
class Line:
    """One entry's curve: (x, y, low, high), with the band left out where low is None."""

    label: str
    family: str
    points: tuple[tuple[float, float, float | None, float | None], ...]
    dashed: bool = False


def base(**parts: Any) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": PAPER,
        "padding": {"left": 4, "right": 8, "top": 8, "bottom": 4},
        "config": {
            "aria": False,
            "font": "Helvetica, Arial, sans-serif",
            "view": {"stroke": None},
            "axis": {
                "domainColor": GHOST,
                "gridColor": GRID,
                "tickColor": GHOST,
                "labelColor": SOFT,
                "titleColor": INK,
                "labelFontSize": 11,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titlePadding": 8,
            },
            "title": {"color": INK, "fontSize": 12, "fontWeight": "bold", "anchor": "start", "offset": 6},
        },
        **parts,
    }


def families(present: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Colour and shape of the families that are there, as encodings."""
    there = set(present)
    names = [f for f in FAMILY if f in there] + sorted(there - FAMILY.keys())
    colours = {"domain": names, "range": [FAMILY.get(n, OTHER)[0] for n in names]}
    shapes = {"domain": names, "range": [FAMILY.get(n, OTHER)[1] for n in names]}
    return {"field": "family", "type": "nominal", "scale": colours, "legend": None}, {
        "field": "family",
        "type": "nominal",
        "scale": shapes,
        "legend": None,
    }


def short(label: str) -> str:
    """A label cut to what a chart has room for."""
    return label if len(label) <= LABEL_LIMIT else label[: LABEL_LIMIT - 1] + "…"


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    *,
    front: bool,
    width: int = 490,
    height: int = 360,
    called: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Points with intervals on both axes; `front`: joins the points that no other beats in both. called: labels further
    away, as `callouts` gives them.
    """
    colours, shapes = families(m.family for m in marks)
    data = [vars(m) | {"label": m.label} for m in marks]
    tooltip = [
        {"field": "label", "title": "Method"},
        {"field": "x", "title": x.title, "format": ".2f"},
        {"field": "y", "title": y.title, "format": ".2f"},
    ]
    layers: list[dict[str, Any]] = []
    steps = front_of(marks) if front else []
    if front:
        layers.append(
            {
                "data": {"values": [{"x": sx, "y": sy, "order": i} for i, (sx, sy) in enumerate(steps)]},
                "mark": {"type": "line", "color": SOFT, "strokeDash": [3, 3], "strokeWidth": 1.2},
                "encoding": {"x": x.encode("x"), "y": y.encode("y"), "order": {"field": "order"}},
            }
        )
    for a, b in (("x", "y"), ("y", "x")):
        spread = [d for d in data if d[f"{a}_low"] is not None]
        if spread:
            axis, other = (x, y) if a == "x" else (y, x)
            layers.append(
                {
                    "data": {"values": spread},
                    "mark": {"type": "rule", "strokeWidth": 1.3, "opacity": 0.55, "clip": True},
                    "encoding": {
                        a: axis.encode(f"{a}_low"),
                        f"{a}2": {"field": f"{a}_high"},
                        b: other.encode(b),
                        "color": colours,
                    },
                }
            )
    layers.append(
        {
            "data": {"values": data},
            "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1, "stroke": PAPER, "strokeWidth": 0.8},
            "encoding": {"x": x.encode("x"), "y": y.encode("y"), "color": colours, "shape": shapes, "tooltip": tooltip},
            "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
        }
    )
    if called:
        layers.append(
            {
                "data": {"values": list(called)},
                "mark": {"type": "rule", "color": SOFT, "strokeWidth": 0.8},
                "encoding": {
                    "x": x.encode("x0"),
                    "y": y.encode("y0"),
                    "x2": {"field": "x1"},
                    "y2": {"field": "y1"},
                },
            }
        )
    layers.append(_labels([*place(marks, x, y, width, height, steps), *called], x, y))
    return base(width=width, height=height, layer=layers)


def pareto(marks: Sequence[Mark]) -> list[Mark]:
    """The marks that no other beats in both x and y, by x."""
    best: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (-m.x, -m.y)):
        if not best or mark.y > best[-1].y:
            best.append(mark)
    return best[::-1]


def front_of(marks: Sequence[Mark]) -> list[tuple[float, float]]:
    """Corners of the staircase through the marks that no other beats in both."""
    corners: list[tuple[float, float]] = []
    for mark in pareto(marks):
        if corners:
            corners.append((corners[-1][0], mark.y))
        corners.append((mark.x, mark.y))
    return corners


def place(
    marks: Sequence[Mark], x: Axis, y: Axis, width: int, height: int, steps: Sequence[tuple[float, float]] = ()
) -> list[dict[str, Any]]:
    """Where labels go, in data units: beside, above or below their point, where they meet no point, no bar, no step of
    the front and no other label.

    A label is left out where there is no room for it; its name is in the table and in the tooltip.
    """
    points = [(x.pixel(m.x, width), y.pixel(m.y, height)) for m in marks]
    taken = drawn(marks, x, y, width, height)
    corners = [(x.pixel(sx, width), y.pixel(sy, height)) for sx, sy in steps]
    taken += [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in itertools.pairwise(corners)
    ]
    first = {id(m) for m in pareto(marks)}
    placed = []
    for index in sorted(range(len(marks)), key=lambda i: (id(marks[i]) not in first, i)):
        px, py = points[index]
        text = short(marks[index].label)
        w = len(text) * CHARACTER
        far = (
            x.pixel(marks[index].x_high or marks[index].x, width) + 6,
            x.pixel(marks[index].x_low or marks[index].x, width) - 6 - w,
        )
        places = (
            (px + 6, py + 9),
            (px + 6, py - 9),
            (px - 6 - w, py + 9),
            (px - 6 - w, py - 9),
            (far[0], py),
            (far[1], py),
            (px - w / 2, py + 16),
            (px - w / 2, py - 16),
        )
        for left, middle in places:
            box = (left, middle - LINE / 2, left + w, middle + LINE / 2)
            inside = left >= 0 and left + w <= width and box[1] >= 0 and box[3] <= height
            if inside and not any(meet(box, other) for other in taken):
                taken.append(box)
                placed.append({"label": text, "x": x.value(left, width), "y": y.value(middle, height)})
                break
    return placed


Box = tuple[float, float, float, float]


def drawn(marks: Sequence[Mark], x: Axis, y: Axis, width: int, height: int) -> list[Box]:
    """Boxes of all points and bars, in pixels."""
    taken: list[Box] = []
    for m in marks:
        px, py = x.pixel(m.x, width), y.pixel(m.y, height)
        taken.append((px - 5, py - 5, px + 5, py + 5))
        if m.x_low is not None and m.x_high is not None:
            taken.append((x.pixel(m.x_low, width), py - 1, x.pixel(m.x_high, width), py + 1))
        if m.y_low is not None and m.y_high is not None:
            taken.append((px - 1, y.pixel(m.y_low, height), px + 1, y.pixel(m.y_high, height)))
    return taken


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _labels(values: Sequence[dict[str, Any]], x: Axis, y: Axis) -> dict[str, Any]:
    return {
        "data": {"values": list(values)},
        "mark": {"type": "text", "align": "left", "baseline": "middle", "fontSize": 11, "color": INK},
        "encoding": {"x": x.encode("x"), "y": y.encode("y"), "text": {"field": "label"}},
    }


def _rows(marks: Sequence[Mark]) -> list[str]:
    """Names of rows, numbered, as two may be called the same."""
    return [f"{i} {m.label}" for i, m in enumerate(marks)]


def _row_axis(names: Sequence[str]) -> dict[str, Any]:
    return {
        "field": "row",
        "type": "nominal",
        "sort": list(names),
        "axis": {
            "title": None,
            "labelExpr": "slice(datum.label, indexof(datum.label, ' ') + 1, indexof(datum.label, ' ') + "
            f"{1 + LABEL_LIMIT})",
            "labelLimit": 280,
            "grid": False,
            "labelColor": INK,
            "ticks": False,
            "domain": False,
        },
    }


def dumbbells(marks: Sequence[Mark], x: Axis, *, width: int = 490) -> dict[str, Any]:
    """One row an entry, in the order given: its x filled and its y hollow on one axis, with their intervals."""
    colours, shapes = families(m.family for m in marks)
    rows = _row_axis(_rows(marks))
    layers: list[dict[str, Any]] = []
    for which, filled in (("x", True), ("y", False)):
        data = [
            {"row": name, "label": m.label, "family": m.family}
            | {to: getattr(m, f"{which}{end}") for to, end in (("at", ""), ("low", "_low"), ("high", "_high"))}
            for name, m in zip(rows["sort"], marks, strict=True)
        ]
        fill = {"filled": True} if filled else {"fill": PAPER, "strokeWidth": 1.4}
        layers += [
            {
                "data": {"values": [d for d in data if d["low"] is not None]},
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.7},
                "encoding": {"x": x.encode("low"), "x2": {"field": "high"}, "y": rows, "color": colours},
            },
            {
                "data": {"values": data},
                "mark": {"type": "point", "size": 70, "opacity": 1, **fill},
                "encoding": {
                    "x": x.encode("at"),
                    "y": rows,
                    "color": colours,
                    "shape": shapes,
                    "tooltip": [
                        {"field": "label", "title": "Method"},
                        {"field": "at", "title": x.title, "format": ".2f"},
                    ],
                },
            },
        ]
    return base(width=width, height={"step": 22}, layer=[layer for layer in layers if layer["data"]["values"]])


def forest(marks: Sequence[Mark], x: Axis, *, width: int = 400) -> dict[str, Any]:
    """One row an entry, in the order given, its x with interval, and a line at zero. `y` of the marks is not used."""
    colours, shapes = families(m.family for m in marks)
    names = _rows(marks)
    data = [vars(m) | {"row": n} for m, n in zip(marks, names, strict=True)]
    rows = _row_axis(names)
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [{"x": 0}]},
            "mark": {"type": "rule", "color": SOFT, "strokeDash": [4, 3]},
            "encoding": {"x": x.encode("x")},
        }
    ]
    spread = [d for d in data if d["x_low"] is not None]
    if spread:
        layers.append(
            {
                "data": {"values": spread},
                "mark": {"type": "rule", "strokeWidth": 2, "clip": True},
                "encoding": {"x": x.encode("x_low"), "x2": {"field": "x_high"}, "y": rows, "color": colours},
            }
        )
    layers.append(
        {
            "data": {"values": data},
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                "x": x.encode("x"),
                "y": rows,
                "color": colours,
                "shape": shapes,
                "tooltip": [{"field": "label", "title": "Method"}, {"field": "x", "title": x.title, "format": ".2f"}],
            },
        }
    )
    return base(width=width, height={"step": 22}, layer=layers)
