"""From boards and trials to charts: what is drawn of them, and the words below it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normbench.board import Board, Comparison, Entry, Metric, against, why_not_compared
from normbench.board.words import attacked, capital
from normbench.pages.axes import Axis, fit
from normbench.pages.callouts import callouts
from normbench.pages.charts import FAMILY, GHOST, Line, Mark, dumbbells, forest, front_of, place, scatter
from normbench.pages.context import Context
from normbench.pages.line_charts import facets, panels
from normbench.pages.methods import key_of
from normbench.pages.rank_charts import sizes
from normbench.pages.results import Results
from normbench.pages.svg import Chart, draw
from normbench.pages.verdicts import span

#: Growth is drawn on a logarithmic axis where it spans more than this factor.
LOG_FROM = 3.0


def _family(context: Context, entry: Entry) -> str:
    return context.methods[key_of(entry)].family


def _mark(context: Context, entry: Entry, x: Metric, y: Metric) -> Mark:
    cx, cy = entry.cells[x.key], entry.cells[y.key]
    fx, fy = (100 if m.share else 1 for m in (x, y))
    return Mark(
        entry.label,
        _family(context, entry),
        cx.value * fx,
        cy.value * fy,
        cx.interval.low * fx if cx.interval else None,
        cx.interval.high * fx if cx.interval else None,
        cy.interval.low * fy if cy.interval else None,
        cy.interval.high * fy if cy.interval else None,
    )


def _axis(marks: Sequence[Mark], which: str, metric: Metric) -> Axis:
    ends = [
        v
        for m in marks
        for v in (getattr(m, which), getattr(m, f"{which}_low"), getattr(m, f"{which}_high"))
        if v is not None
    ]
    title = f"{metric.title} ({metric.unit if metric.share else 'end / start'})"
    return fit(
        ends,
        title,
        log=not metric.share and max(ends) / max(min(ends), 1e-9) > LOG_FROM,
        floor=0.0 if metric.share else -math.inf,
        ceiling=100.0 if metric.share else math.inf,
    )


def against_each_other(
    context: Context, board: Board, x: Metric, y: Metric, chart_id: str, title: str, *, front: bool, width: int = 490
) -> Chart | None:
    """A scatter of two metrics; None with fewer than two entries that have both."""
    both = [e for e in board.entries if x.key in e.cells and y.key in e.cells]
    if len(both) < 2:
        return None
    marks = [_mark(context, e, x, y) for e in both]
    caption = (
        f"{board.title}. One point is one method with its settings; bars are intervals for comparison, "
        "missing under three."
    )
    if front:
        caption += " Dashed: the Pareto front of the means, whose members no other method beats in both."
    return draw(
        context,
        chart_id,
        title,
        caption,
        scatter(marks, _axis(marks, "x", x), _axis(marks, "y", y), front=front, width=width),
        [m.family for m in marks],
    )


def overview(context: Context, board: Board, x: Metric, y: Metric, *, title: str) -> Chart | None:
    """The scatter of the first page: zoomed to the data, with every entry named that may be the best in either."""
    both = [e for e in board.entries if x.key in e.cells and y.key in e.cells]
    if len(both) < 2:
        return None
    marks = [_mark(context, e, x, y) for e in both]
    across, along = span([(m.x, m.x_low, m.x_high) for m in marks]), span([(m.y, m.y_low, m.y_high) for m in marks])
    away = [not (across.low <= m.x <= across.high and along.low <= m.y <= along.high) for m in marks]
    near = [m for m, out in zip(marks, away, strict=True) if not out]
    leaders = {e.label for metric in (x, y) for e in board.tied_for_first(metric)}
    out = ", ".join(f"{m.label} ({m.x:.1f} %, {m.y:.1f} %)" for m, gone in zip(marks, away, strict=True) if gone)
    caption = (
        "One point is one method with its settings. Bars are 95 % intervals for comparison. Names stand beside all "
        "that may be the best in one of the two. Dashed: no other method beats these in both."
        + (f" Beyond the chart: {out}." if out else "")
    )
    axes = _axis(near, "x", x), _axis(near, "y", y)
    size = (470, 430)
    placed = place(near, *axes, *size, front_of(near))
    called = callouts(near, *axes, *size, placed, frozenset(leaders))
    spec = scatter(near, *axes, front=True, width=size[0], height=size[1], called=called)
    heading = f"Clean accuracy and {title[:1].lower()}{title[1:]}"
    return draw(context, "overview-front", heading, caption, spec, [m.family for m in near])


def differences(
    context: Context, board: Board, metric: Metric, reference: Entry, chart_id: str, title: str
) -> Chart | None:
    """Paired differences of every entry to a reference, as a forest plot."""
    made: list[tuple[Entry, Comparison]] = [(e, c) for e, c in against(board, reference, metric) if c.mean is not None]
    if not made:
        return None
    made.sort(key=lambda pair: -(pair[1].mean or 0.0))
    marks = [
        Mark(
            e.label,
            _family(context, e),
            100 * (c.mean or 0.0),
            0.0,
            100 * c.interval.low if c.interval else None,
            100 * c.interval.high if c.interval else None,
        )
        for e, c in made
    ]
    ends = [0.0, *(v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None)]
    apart = [e.label for e, c in made if c.verdict in {"higher", "lower"}]
    idle = [e.label for e, _ in made if why_not_compared(e, reference, metric)]
    verdict = f"these can be told apart from it: {', '.join(apart)}" if apart else "none can be told apart from it"
    tested = f"By the rule of the board, for all its pairs at once, {verdict}."
    caption = (
        f"{board.title}. {capital(metric.words)}: difference of the means over seeds to {reference.label}; bars are "
        "intervals for all pairs of the board at once, missing under three seeds."
        + (f" {tested}" if len(idle) < len(made) else "")
        + (f" Not tested: {', '.join(idle)}." if idle else "")
    )
    axis = fit(ends, f"Difference to {reference.label} (percentage points)")
    return draw(context, chart_id, title, caption, forest(marks, axis), [m.family for m in marks])


def accuracies(context: Context, board: Board, entries: Sequence[Entry]) -> Chart | None:
    """Clean and robust accuracy of these entries, one a line, in the order given."""
    clean, robust = board.headline("clean"), board.headline("robust")
    both = [e for e in entries if clean and robust and {clean.key, robust.key} <= e.cells.keys()]
    if clean is None or robust is None or len(both) < 2:
        return None
    marks = [_mark(context, e, clean, robust) for e in both]
    ends = [v for m in marks for v in (m.x, m.x_low, m.x_high, m.y, m.y_low, m.y_high) if v is not None]
    caption = (
        f"{board.title}. Filled: clean accuracy; hollow: {robust.words}. Of each method the settings with the highest "
        "clean accuracy; bars are intervals for comparison, missing under three seeds."
    )
    spec = dumbbells(marks, fit(ends, "Accuracy (%)", floor=0.0, ceiling=100.0))
    return draw(context, "methods", "Clean and robust accuracy", caption, spec, [m.family for m in marks])


def reference(board: Board, metric: Metric) -> Entry | None:
    """What others are compared with: batch norm without further settings' doing where it is there, else the best
    mean.
    """
    there = [e for e in board.standings(metric) if metric.key in e.cells]
    return next((e for e in there if e.norm == "bn"), there[0] if there else None)


def robustness_curves(context: Context, board: Board, chart_id: str) -> Chart | None:
    """Accuracy against the size of one attack, from clean on: see `sizes`."""
    metrics, clean = sizes(board), board.headline("clean")
    if not metrics or clean is None:
        return None
    attack = attacked(metrics[0].attack, metrics[0].threat, None)
    lines = []
    for entry in board.entries:
        cells = [(0.0, entry.cells.get(clean.key)), *((255 * (m.size or 0.0), entry.cells.get(m.key)) for m in metrics)]
        points = tuple(
            (
                size,
                100 * c.value,
                100 * c.interval.low if c.interval else None,
                100 * c.interval.high if c.interval else None,
            )
            for size, c in cells
            if c
        )
        if len(points) == len(cells):
            lines.append(Line(entry.label, _family(context, entry), points, dashed=_decayed(entry)))
    if not lines:
        return None
    ticks = tuple(dict.fromkeys(p[0] for p in lines[0].points))
    ends = [v for line in lines for _, y, low, high in line.points for v in (y, low, high) if v is not None]
    named = board.headline("robust")
    spec = facets(
        lines,
        Axis("eps (1/255)", 0.0, ticks[-1], ticks=ticks if len(ticks) < 7 else ()),
        fit(ends, "Accuracy (%)", floor=0.0, ceiling=100.0),
        mark=255 * (named.size or 0.0) if named in metrics else None,
    )
    caption = (
        f"{board.title}. Mean over seeds against the size of the attack, 0 being clean: {attack}; bands are "
        "intervals for comparison. Grey: all other families."
        f"{' Dotted upright: the size that ranks are of.' if named in metrics else ''}{_dash_note(lines)}"
    )
    return draw(context, chart_id, "Accuracy against the size of the attack", caption, spec)


def growth_curves(context: Context, board: Board, chart_id: str) -> Chart | None:
    """Norm of all weights over training, relative to the start, with a band over seeds."""
    return _curves(
        context,
        board,
        chart_id,
        "weight-norm.raw",
        "Weight norm over training",
        "Norm / norm at the start",
        relative=True,
    )


def loss_curves(context: Context, board: Board, chart_id: str) -> Chart | None:
    """Training loss over training."""
    return _curves(context, board, chart_id, "train.loss", "Training loss", "Training loss", relative=False)


def _curves(
    context: Context, board: Board, chart_id: str, measure: str, title: str, axis: str, *, relative: bool
) -> Chart | None:
    lines = []
    for entry in board.entries:
        points = _mean_curve(context.results, entry, measure, relative=relative)
        if len(points) > 1:
            lines.append(Line(entry.label, _family(context, entry), points, dashed=_decayed(entry)))
    values = [v for line in lines for _, y, low, high in line.points for v in (y, low, high) if v is not None]
    if not lines or min(values) <= 0:
        return None
    log = max(values) / min(values) > LOG_FROM
    epochs = [p[0] for line in lines for p in line.points]
    spec = facets(
        lines,
        fit(epochs, "Epoch", whole=True),
        fit(values, axis + (" (log)" if log else ""), log=log),
    )
    caption = (
        f"{board.title}. Mean over seeds; bands from the smallest to the largest seed. Grey: all other "
        f"families.{_dash_note(lines)}"
    )
    return draw(context, chart_id, title, caption, spec)


def _mean_curve(
    results: Results, entry: Entry, measure: str, *, relative: bool
) -> tuple[tuple[float, float, float | None, float | None], ...]:
    by_epoch: dict[float, list[float]] = {}
    finished = [r for r in entry.runs if r.ok]
    for run in finished:
        curve = results.curve(run.trial_id, measure)
        start = curve[0][1] if curve and relative else 1.0
        for epoch, value in curve:
            by_epoch.setdefault(epoch, []).append(value / start if start else 0.0)
    whole = {epoch: v for epoch, v in by_epoch.items() if len(v) == len(finished)}
    return tuple(
        (epoch, sum(v) / len(v), min(v) if len(v) > 1 else None, max(v) if len(v) > 1 else None)
        for epoch, v in sorted(whole.items())
    )


def _decayed(entry: Entry) -> bool:
    return bool(entry.spec["train"]["weight_decay"])


def _dash_note(lines: Sequence[Line]) -> str:
    return " Dashed: with weight decay." if len({line.dashed for line in lines}) > 1 else ""


def trial_curves(context: Context, row: Mapping[str, Any], family: str, chart_id: str) -> Chart | None:
    """One trial's loss, accuracy and weight norms over its epochs; single layers in grey."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for reading in row["curves"] or []:
        if reading["value"] is not None:
            series.setdefault((reading["measure"], reading["layer"]), []).append((reading["epoch"], reading["value"]))
    main, second = FAMILY.get(family, ("#454d56", ""))[0], "#14181d"
    groups = []
    wanted: list[tuple[str, str, list[tuple[str, str]], Callable[[float], float], bool]] = [
        ("Loss", "Training loss", [("train.loss", "training")], lambda v: v, False),
        (
            "Accuracy",
            "Accuracy (%)",
            [("train.accuracy", "training"), ("validation.accuracy", "held out")],
            lambda v: 100 * v,
            False,
        ),
        (
            "Weight norm",
            "L2 norm",
            [("weight-norm.raw", "raw"), ("weight-norm.effective", "effective")],
            lambda v: v,
            True,
        ),
    ]
    for title, axis, names, scaled, layers in wanted:
        background = [
            ("", GHOST, _scaled(v, scaled))
            for (measure, layer), v in sorted(series.items())
            if layers and layer and measure == names[0][0] and len(v) > 1
        ]
        front = [
            (label, (main, second)[i], _scaled(series[measure, ""], scaled))
            for i, (measure, label) in enumerate(names)
            if (measure, "") in series
        ]
        if len(front) == 2 and front[0][2] == front[1][2]:
            front = [(" = ".join(label for label, _, _ in front), *front[0][1:])]
        points = [p for _, _, curve in [*background, *front] for p in curve]
        if not front:
            continue
        log = (
            layers
            and min(y for _, y in points) > 0
            and max(y for _, y in points) / min(y for _, y in points) > LOG_FROM
        )
        x = fit((x for x, _ in points), "Epoch", whole=True)
        y = fit((y for _, y in points), axis + (" (log)" if log else ""), log=log, floor=-math.inf if layers else 0.0)
        groups.append((title, [*background, *front], x, y))
    if not groups:
        return None
    return draw(
        context,
        chart_id,
        "Over training",
        "One trial, one value an epoch. Grey: the weights of single layers.",
        panels(groups),
        png=False,
    )


def _scaled(curve: Sequence[tuple[float, float]], scaled: Callable[[float], float]) -> list[tuple[float, float]]:
    return [(x, scaled(y)) for x, y in curve]
