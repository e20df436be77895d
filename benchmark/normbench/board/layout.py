"""The layout of the source paper's Tables 1 and 2 (Sun et al., AAAI 2020): a column a method, with and without weight
decay; clean accuracy, under noise, under BIM, and what both take from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from normbench.board.metric import Metric
from normbench.board.sheets import Number, Sheet
from normbench.board.stats import t_interval
from normbench.board.types import Board, Entry, Run

#: Noise and BIM as the paper's reference ran them, where that was run.
CITED = ("galloway[noise]", "galloway[linf]")


def attacks_of(board: Board) -> tuple[Metric | None, Metric | None]:
    """The noise and the BIM that stand for the paper's: those cited where they were run, else the first in pixel
    space.
    """
    cited = [next((m for m in board.of("robust") if m.attack == name), None) for name in CITED]
    if None not in cited:
        return cited[0], cited[1]
    noise = next((m for m in board.of("robust") if m.threat == "noise" and m.attack.partition("[")[0] == "noise"), None)
    return noise, next(iter(bims_of(board)), None)


def bims_of(board: Board) -> list[Metric]:
    return [m for m in board.of("robust") if m.attack.partition("[")[0] == "bim"]


def paper_layout(board: Board, noise: Metric | None = None, bim: Metric | None = None) -> Sheet | None:
    """The table of one board; without noise or BIM (default: see `attacks_of`) their rows are missing. None where
    nothing was measured.
    """
    clean = board.headline("clean")
    if clean is None:
        return None
    first, second = attacks_of(board)
    noise, bim = noise or first, bim or second
    columns = _columns(board)
    lines: list[tuple[str, tuple[Metric, ...]]] = [("Clean", (clean,))]
    for metric, difference in ((noise, "Acc-Diff1"), (bim, "Acc-Diff2")):
        if metric is not None:
            lines += [(metric.heading, (metric,)), (difference, (clean, metric))]
    rows = tuple(((name,), tuple(_number(entry, metrics) for entry in columns.values())) for name, metrics in lines)
    told = [f"{name}: clean less {metrics[1].label}" for name, metrics in lines if len(metrics) > 1]
    note = "; ".join(["In %, mean over seeds ± its 95 % t-interval", *told]) + ". +WD: with weight decay."
    return Sheet(board.title, note, ("Model",), tuple(columns), rows)


def _columns(board: Board) -> dict[str, Entry]:
    """Entries by the name of their column, methods in the board's order: `bn`, `bn+WD`; the label where several entries
    would share one.
    """
    found: dict[str, list[Entry]] = {}
    methods = list(dict.fromkeys(e.norm for e in board.entries))
    for entry in sorted(board.entries, key=lambda e: (methods.index(e.norm), bool(_decay(e)), _decay(e))):
        found.setdefault(f"{entry.norm}{'+WD' if _decay(entry) else ''}", []).append(entry)
    return {e.label if len(several) > 1 else name: e for name, several in found.items() for e in several}


def _decay(entry: Entry) -> float:
    return float(entry.spec["train"]["weight_decay"])


def _number(entry: Entry, metrics: Sequence[Metric]) -> Number:
    values = list(seeds_of(entry.runs, metrics).values())
    if not values:
        return Number("–")
    mean, interval = math.fsum(values) / len(values), t_interval(values)
    text = f"{100 * mean:.2f}" + (f" ± {100 * interval.half:.2f}" if interval else "")
    return Number(text, mean, interval)


def seeds_of(runs: Iterable[Run], metrics: Sequence[Metric]) -> dict[int, float]:
    """By seed, the value of the first metric less those of the others, where all were measured."""
    found = {}
    for run in runs:
        values = [run.values.get(m.key) for m in metrics]
        if None not in values:
            first, *others = [v for v in values if v is not None]
            found[run.seed] = first - math.fsum(others)
    return found


def layout_csv(found: Sequence[Sheet]) -> list[list[object]]:
    """Lines of tables in this layout: a line a cell, values as shares in [0, 1]."""
    lines: list[list[object]] = [["board", "row", "method", "value", "low", "high"]]
    for sheet in found:
        for words, numbers in sheet.rows:
            for column, n in zip(sheet.columns, numbers, strict=True):
                ends = (n.interval.low, n.interval.high) if n.interval else ("", "")
                lines.append([sheet.title, *words, column, "" if n.value is None else n.value, *ends])
    return lines


def layout_json(found: Sequence[Sheet]) -> list[dict[str, object]]:
    """Plain values of tables in this layout; shares in [0, 1]."""
    return [
        {
            "title": sheet.title,
            "rows": {
                words[0]: {
                    column: {
                        "value": n.value,
                        "low": n.interval.low if n.interval else None,
                        "high": n.interval.high if n.interval else None,
                    }
                    for column, n in zip(sheet.columns, numbers, strict=True)
                }
                for words, numbers in sheet.rows
            },
        }
        for sheet in found
    ]
