"""Where orders cross: the ranks of a board at every size of an attack, as a chart and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normbench.board import Board, Entry, Metric
from normbench.board.words import attacked
from normbench.pages.charts import INK, PAPER, base, families, short
from normbench.pages.context import Context
from normbench.pages.methods import key_of
from normbench.pages.svg import Chart, draw
from normbench.spec.outcome import BALLS
from normbench.spec.robustness import WORST_CASE
from normbench.spec.text import show

#: Pixels from size to size, and from rank to rank.
ACROSS, DOWN = 180, 18


@dataclass(frozen=True)
class RankTable:
    """Ranks at every size: heads of the columns, and a line for each method."""

    attack: str
    heads: tuple[str, ...]
    named: int | None
    """Which column is the one that the board is ordered by."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Stop:
    """One method at one size: its place by the mean, from 1, and whether it may be the best there."""

    place: int
    leading: bool


def sizes(board: Board) -> list[Metric]:
    """One attack within a ball at all of its sizes, ascending: the worst case if there is one, else the attack that was
    run at most sizes. None with fewer than two sizes.
    """
    found: dict[tuple[str, str], list[Metric]] = {}
    for metric in board.of("robust"):
        if metric.threat in BALLS:
            found.setdefault((metric.attack, metric.threat), []).append(metric)
    several = {k: v for k, v in found.items() if len(v) > 1}
    best = max(several, key=lambda k: (k[0] == WORST_CASE, len(several[k])), default=None)
    return sorted(several[best], key=lambda m: m.size or 0.0) if best else []


def stops(board: Board, metrics: Sequence[Metric]) -> dict[str, tuple[Stop, ...]]:
    """Every entry that has a number at all sizes, by id: where it stands among these at each."""
    there = [e for e in board.entries if all(m.key in e.cells for m in metrics)]
    found: dict[str, list[Stop]] = {e.id: [] for e in there}
    for metric in metrics:
        ordered = [e for e in board.standings(metric) if e.id in found]
        for place, entry in enumerate(ordered, 1):
            rank = board.rank(entry, metric)
            found[entry.id].append(Stop(place, bool(rank and rank.best == 1)))
    return {k: tuple(v) for k, v in found.items()}


def rank_table(board: Board) -> RankTable | None:
    """The ranks as spans, which say what the chart cannot: who is tied with whom."""
    metrics = _from_clean(board)
    if not metrics or not any(board.tested(m) for m in metrics):
        return None
    headline = board.headline("robust")
    rows = []
    for entry in board.standings(metrics[0]):
        ranks = [board.rank(entry, m) for m in metrics]
        rows.append((entry.label, tuple(r.text if r else "–" for r in ranks)))
    named = metrics.index(headline) if headline in metrics else None
    return RankTable(_attack(metrics[-1]), tuple(map(_head, metrics)), named, tuple(rows))


def rank_chart(context: Context, board: Board, chart_id: str) -> Chart | None:
    """The order of the means at every size, one line a method; None with fewer than two methods or sizes."""
    metrics = _from_clean(board)
    found = stops(board, metrics) if metrics else {}
    if len(found) < 2:
        return None
    headline = board.headline("robust")
    heads = [f"{_head(m)}{' (ranked by)' if m == headline else ''}" for m in metrics]
    entries = [e for e in board.entries if e.id in found]
    kinds = {e.id: context.methods[key_of(e)].family for e in entries}
    caption = (
        f"{board.title}. From top to bottom: the order of the means, clean, then {_attack(metrics[-1])}. Lines "
        "that cross change places. Filled: may be the best at this size; among filled points the order is not certain. "
        "The table above has the ranks as spans."
    )
    spec = bump(entries, kinds, found, heads)
    return draw(context, chart_id, "Order at every size of the attack", caption, spec, kinds.values())


def _from_clean(board: Board) -> list[Metric]:
    clean, sized = board.headline("clean"), sizes(board)
    return [*([clean] if clean else []), *sized] if sized else []


def _attack(metric: Metric) -> str:
    return attacked(metric.attack, metric.threat, None)


def _head(metric: Metric) -> str:
    return "clean" if metric.size is None else show(metric.size)


def bump(
    entries: Sequence[Entry], kinds: dict[str, str], found: dict[str, tuple[Stop, ...]], heads: Sequence[str]
) -> dict[str, Any]:
    """The specification: names stand at both ends, one a line, so that none meets another."""
    last = len(heads) - 1
    points = [
        {
            "label": e.label,
            "family": kinds[e.id],
            "x": i,
            "y": stop.place,
            "leading": stop.leading,
            "dash": bool(e.spec["train"]["weight_decay"]),
        }
        for e in entries
        for i, stop in enumerate(found[e.id])
    ]
    colours, shapes = families(kinds.values())
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": [0, last], "nice": False},
        "axis": {
            "title": None,
            "values": list(range(last + 1)),
            "labelExpr": f"{list(heads)}[datum.value]",
            "grid": True,
            "orient": "top",
            "labelColor": INK,
            "domain": False,
        },
    }
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": {"domain": [len(entries) + 0.5, 0.5], "nice": False, "zero": False},
        "axis": None,
    }
    lines = {
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 1.6, "opacity": 0.8},
        "encoding": {
            "x": x,
            "y": y,
            "color": colours,
            "detail": {"field": "label"},
            "strokeDash": {
                "field": "dash",
                "type": "nominal",
                "scale": {"domain": [False, True], "range": [[1, 0], [5, 3]]},
                "legend": None,
            },
        },
    }
    layers: list[dict[str, Any]] = [lines]
    for leading in (False, True):
        own = [p for p in points if p["leading"] is leading]
        fill = {"filled": True, "stroke": PAPER, "strokeWidth": 0.8} if leading else {"fill": PAPER, "strokeWidth": 1.4}
        layers.append(
            {
                "data": {"values": own},
                "mark": {"type": "point", "size": 60, "opacity": 1, **fill},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": colours,
                    "shape": shapes,
                    "tooltip": [{"field": "label", "title": "Method"}, {"field": "y", "title": "Place"}],
                },
            }
        )
    for at, align, dx in ((0, "right", -9), (last, "left", 9)):
        names = [p | {"label": f"{p['y']}  {short(str(p['label']))}"} for p in points if p["x"] == at]
        layers.append(
            {
                "data": {"values": names},
                "mark": {"type": "text", "align": align, "baseline": "middle", "dx": dx, "fontSize": 11, "color": INK},
                "encoding": {"x": x, "y": y, "text": {"field": "label"}},
            }
        )
    return base(width=ACROSS * last, height=DOWN * len(entries), layer=layers)
