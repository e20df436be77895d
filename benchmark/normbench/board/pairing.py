"""Two sides that a person names, on boards: which entries they are, and which of these are set against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from normbench.board.comparison import Comparison, compare
from normbench.board.metric import Metric
from normbench.board.types import Board, Entry
from normbench.errors import BenchError
from normbench.spec.text import closest


class PairingError(BenchError):
    """A side or a metric is on no board, or no board has both sides; the message says which, and what there is."""


def named(board: Board, text: str) -> list[Entry]:
    """The entries that a text means: that of a trial (by its id), one by its id or label, all of a method as written
    (`gn[groups=8]`), else all of a method whatever its parameters (`gn`).
    """
    rules = (
        lambda e: text in {e.id, e.label, *(r.trial_id for r in e.runs)},
        lambda e: e.norm == text,
        lambda e: "[" not in text and "+".join(e.methods) == text,
    )
    return next((found for rule in rules if (found := [e for e in board.entries if rule(e)])), [])


def pairs(board: Board, one: str, other: str) -> list[tuple[Entry, Entry]]:
    """Entries of one side with entries of the other: of all that could be paired those with the fewest differences in
    settings that nobody tuned, so that weight decay 0 is set against weight decay 0.
    """
    every = [(a, b) for a in named(board, one) for b in named(board, other) if a.id != b.id]
    fewest = min((len(differing(a, b)) for a, b in every), default=0)
    chosen = {frozenset((a.id, b.id)): (a, b) for a, b in reversed(every) if len(differing(a, b)) == fewest}
    return list(reversed(chosen.values()))


def differing(a: Entry, b: Entry) -> dict[str, tuple[str, str]]:
    """Settings in which two entries differ, by name, without those that were tuned for both."""
    here, there = dict(a.settings), dict(b.settings)
    return {k: (v, there[k]) for k, v in here.items() if v != there[k] and not (k in a.tuned and k in b.tuned)}


def metrics_of(board: Board, wanted: Sequence[str]) -> list[Metric]:
    """The metrics of a board by key or label; without any, the headlines of accuracy and robustness; `all` is all."""
    if not wanted:
        return [m for group in ("clean", "robust") if (m := board.headline(group))]
    if "all" in wanted:
        return list(board.metrics)
    asked = {text.casefold() for text in wanted}
    return [m for m in board.metrics if {m.key.casefold(), m.label.casefold()} & asked]


def versus(
    boards: Sequence[Board], one: str, other: str, metrics: Sequence[str] = ()
) -> list[tuple[Board, Entry, Entry, list[Comparison]]]:
    """Every pair of both sides on every board that has both, with the first minus the second in each metric, judged
    by the rule of the board. Raises `PairingError`.
    """
    for text in (one, other):
        if not any(named(b, text) for b in boards):
            raise PairingError(
                f"no board has {text!r}{near(text, [n for b in boards for e in b.entries for n in (e.norm, e.label)])}"
            )
    for text in metrics:
        if text != "all" and not any(metrics_of(b, [text]) for b in boards):
            raise PairingError(
                f"no board has the metric {text!r}{near(text, [m.key for b in boards for m in b.metrics])}"
            )
    found = [
        (b, x, y, [compare(b, x, y, m) for m in metrics_of(b, metrics)])
        for b in boards
        for x, y in pairs(b, one, other)
    ]
    if not found:
        where = {text: [b.title for b in boards if named(b, text)] for text in (one, other)}
        if where[one] == where[other]:
            raise PairingError(f"{one!r} and {other!r} are the same entries: there is nothing to compare")
        told = "; ".join(f"{text!r} is on {', '.join(titles[:5])}" for text, titles in where.items())
        raise PairingError(f"no board has both: {told}")
    return found


def versus_json(found: Sequence[tuple[Board, Entry, Entry, list[Comparison]]]) -> list[dict[str, Any]]:
    """Plain values of `versus`; accuracies are shares in [0, 1]."""
    return [
        {
            "board": board.id,
            "title": board.title,
            "suites": list(board.suites),
            "a": {"entry": a.id, "label": a.label, "settings": dict(a.settings)},
            "b": {"entry": b.id, "label": b.label, "settings": dict(b.settings)},
            "differing": {k: list(v) for k, v in differing(a, b).items()},
            "metrics": {
                c.metric.key: {
                    "label": c.metric.label,
                    "a": cell.value if (cell := a.cells.get(c.metric.key)) else None,
                    "b": cell.value if (cell := b.cells.get(c.metric.key)) else None,
                    "difference": c.mean,
                    "low": c.interval.low if c.interval else None,
                    "high": c.interval.high if c.interval else None,
                    "p": c.p,
                    "verdict": c.verdict,
                    "seeds": {str(p.seed): [p.a, p.b] for p in c.pairs},
                }
                for c in made
            },
        }
        for board, a, b, made in found
    ]


def near(text: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or what there is."""
    unique = sorted(set(known))
    if close := closest(text, unique, 0.5):
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; there are {', '.join(unique[:30]) or 'none'}{', ...' if len(unique) > 30 else ''}"
