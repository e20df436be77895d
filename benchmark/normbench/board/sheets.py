"""Tables to take home: boards as Markdown, LaTeX and CSV, each escaped for its own syntax. Pure functions.

A `Sheet` is a table before its syntax is chosen. What a name holds (`|`, `&`, `=`, brackets, control characters) can
neither end a cell nor be run by what reads it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from normbench.board.badges import badges
from normbench.board.metric import Metric
from normbench.board.stats import Interval
from normbench.board.types import Board, Entry, why_not
from normbench.spec.text import one_line

#: What a caption says of intervals and ranks.
READING = (
    "Methods are told apart where their intervals (±) do not overlap; ranks are intervals; bold: cannot be told from "
    "the best."
)


@dataclass(frozen=True)
class Number:
    """One cell: a value in its unit as it is shown, and in plain."""

    text: str
    value: float | None = None
    """As a share in [0, 1], or a factor of growth."""
    interval: Interval | None = None
    best: bool = False
    """Whether it cannot be told from the best of its column."""


@dataclass(frozen=True)
class Sheet:
    """One table: `heads` of the columns of words, then `columns` of numbers."""

    title: str
    note: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Number, ...]], ...]


def sheets(board: Board) -> list[Sheet]:
    """Accuracy, robust accuracy and growth of weights, where the board has them; every metric with its interval, the
    ranks of the headline first.
    """
    about = " · ".join(badge.text for badge in badges(board))
    groups = (
        ("clean accuracy, %", board.of("clean")),
        ("robust accuracy, %", board.of("robust")),
        ("weight norm, end / start", board.growth),
    )
    return [
        _sheet(board, f"{board.title}: {what}", f"{about}.{f' {READING}' if metrics[0].share else ''}", metrics)
        for what, metrics in groups
        if metrics
    ]


def _sheet(board: Board, title: str, note: str, metrics: Sequence[Metric]) -> Sheet:
    by = board.headline(metrics[0].group) or metrics[0]
    tested = board.tested(by)
    settings = [name for name, _ in board.entries[0].settings]
    rows = []
    for entry in board.standings(by):
        rank = board.rank(entry, by)
        words = (*([rank.text if rank else "–"] if tested else []), entry.label, *dict(entry.settings).values())
        seeds = str(len(entry.runs) - len(entry.failed))
        rows.append(
            (
                (*words, seeds, "; ".join(filter(None, (entry.status or why_not(entry, by), entry.stale)))),
                tuple(_number(board, entry, m) for m in metrics),
            )
        )
    ordered = f"Ranked by {by.label}. " if tested and len(metrics) > 1 else ""
    heads = (*(["Rank"] if tested else []), "Method", *settings, "Seeds", "Note")
    if not any(words[-1] for words, _ in rows):
        heads, rows = heads[:-1], [(words[:-1], numbers) for words, numbers in rows]
    return Sheet(title, f"{ordered}{note}", heads, tuple(m.label for m in metrics), tuple(rows))


def _number(board: Board, entry: Entry, metric: Metric) -> Number:
    cell, rank = entry.cells.get(metric.key), board.rank(entry, metric)
    if cell is None:
        return Number("–")
    return Number(cell.display, cell.value, cell.interval, bool(rank and rank.best == 1 and rank.of > 1))


def markdown(found: Iterable[Sheet]) -> str:
    """GitHub's tables, each under a heading."""
    parts = []
    for sheet in found:
        lines = [
            [*map(_markdown, (*sheet.heads, *sheet.columns))],
            [*(":--" for _ in sheet.heads), *("--:" for _ in sheet.columns)],
            *(
                [
                    *map(_markdown, words),
                    *(f"**{_markdown(n.text)}**" if n.best else _markdown(n.text) for n in numbers),
                ]
                for words, numbers in sheet.rows
            ),
        ]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"### {_markdown(sheet.title)}\n\n{table}\n\n{_markdown(sheet.note)}\n")
    return "\n".join(parts)


#: What Markdown may read as markup within a line; `~` and `$` are GitHub's.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~$#&!])")


def _markdown(text: str) -> str:
    return _MARKUP.sub(r"\\\1", one_line(text))


#: A box of LaTeX as wide as what is in it, at most as a line.
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def latex(found: Iterable[Sheet]) -> str:
    """`table` environments with the rules of booktabs, to be read by `\\input`; what is wider than a line is shrunk to
    it.
    """
    parts = ["% \\usepackage{booktabs,graphicx} in the preamble"]
    for sheet in found:
        head = " & ".join(map(_latex, (*sheet.heads, *sheet.columns)))
        rows = "\n".join(
            f"{{}}{' & '.join([*map(_latex, words), *map(_value, numbers)])} \\\\" for words, numbers in sheet.rows
        )
        kinds = "l" * len(sheet.heads) + "r" * len(sheet.columns)
        parts.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(f'{sheet.title}. {sheet.note}')}}}\n"
            f"{FITTED}{{%\n\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
            f"{rows}\n\\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}"
        )
    return "\n\n".join(parts) + "\n"


def _value(number: Number) -> str:
    return f"\\textbf{{{_latex(number.text)}}}" if number.best else _latex(number.text)


def _latex(text: str) -> str:
    escaped: str = _encoder().unicode_to_latex(one_line(text))
    return escaped.replace("|", r"{\textbar}")


@cache
def _encoder() -> Any:
    from pylatexenc.latexencode import UnicodeToLatexEncoder

    return UnicodeToLatexEncoder(unknown_char_policy="replace", unknown_char_warning=False)


def tidy_csv(boards: Iterable[Board]) -> str:
    """A line for each entry and metric of boards; accuracies are shares in [0, 1]."""
    given = list(boards)
    settings = list(dict.fromkeys(name for b in given for e in b.entries for name, _ in e.settings))
    head = ["board", "dataset", "model", "width", "batch_size", "device", "precision", "method", "entry", "norm"]
    ends = ["seeds", "status", "metric", "value", "low", "high", "rank_best", "rank_worst", "why_not", "stale"]
    lines: list[list[Any]] = [[*head, *settings, *ends]]
    for b in given:
        about = [b.title, b.dataset, b.model, b.width, b.batch_size, b.device_class, b.precision]
        for e in b.entries:
            own = dict(e.settings)
            fixed = [*about, e.label, e.id, e.norm, *(own.get(s, "") for s in settings)]
            for m in b.metrics:
                cell, rank = e.cells.get(m.key), b.rank(e, m)
                span = (cell.interval.low, cell.interval.high) if cell and cell.interval else ("", "")
                ranks = (rank.best, rank.worst) if rank else ("", "")
                value = cell.value if cell else ""
                count = cell.n if cell else 0
                lines.append([*fixed, count, e.status, m.key, value, *span, *ranks, why_not(e, m), e.stale])
    return write_csv(lines)


def write_csv(lines: Iterable[Sequence[Any]]) -> str:
    """Lines as CSV that no spreadsheet runs: see `harmless`."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([*map(harmless, line)] for line in lines)
    return out.getvalue()


def harmless(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quotation mark in front; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA else text


#: How formulas begin, in the wide forms of East Asian keyboards as well.
_FORMULA = frozenset("=+-@＝＋－＠")
