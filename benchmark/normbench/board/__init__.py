"""Boards: what the results say, and how surely. Pure functions from rows to frozen values; no input or output, no
torch.

An entry is all trials that share everything but the seed. A board is all entries that may be compared: same dataset,
model, width, batch size and evaluation, the same budget (epochs and training images), computed on one class of device
in one precision. What may be chosen for each method (optimizer, rate, decay, ...) keeps no entries apart; where it
differs, it is a column. Ranks are intervals: best = 1 + how many entries lie wholly above, worst = how many do not lie
wholly below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.board.badges import Badge, badges
from normbench.board.comparison import (
    UNDECIDED,
    Comparison,
    Pair,
    against,
    by_image,
    compare,
    discordant_pairs,
    each_other,
    image_error,
    image_errors,
    mcnemar_pairs,
    told_apart,
)
from normbench.board.make import CLEAN, boards, growth
from normbench.board.metric import Metric
from normbench.board.ranking import Difference, Ranking, Standing, differences, rank
from normbench.board.stats import (
    MIN_SEEDS,
    Interval,
    Rank,
    discordant,
    mcnemar,
    ranks,
    t_interval,
    wilson,
)
from normbench.board.titles import slugify
from normbench.board.tuning import EDGE
from normbench.board.types import STALE, Board, Cell, Entry, Point, Run, untested, why_not, why_not_compared
from normbench.board.words import describe
from normbench.spec.rooms import callable_room

__all__ = [
    "CLEAN",
    "EDGE",
    "MIN_SEEDS",
    "STALE",
    "UNDECIDED",
    "Badge",
    "Board",
    "Cell",
    "Comparison",
    "Difference",
    "Entry",
    "Interval",
    "Metric",
    "Pair",
    "Point",
    "Rank",
    "Ranking",
    "Run",
    "Standing",
    "against",
    "badges",
    "boards",
    "boards_json",
    "by_image",
    "compare",
    "describe",
    "differences",
    "discordant",
    "discordant_pairs",
    "each_other",
    "growth",
    "image_error",
    "image_errors",
    "mcnemar",
    "mcnemar_pairs",
    "rank",
    "ranks",
    "slugify",
    "t_interval",
    "told_apart",
    "untested",
    "why_not",
    "why_not_compared",
    "wilson",
]

callable_room(__name__)


def boards_json(boards: Iterable[Board]) -> list[dict[str, Any]]:
    """Plain values of boards, for `--json`: accuracies are shares in [0, 1]."""
    return [
        {
            "board": b.id,
            "title": b.title,
            "dataset": b.dataset,
            "model": b.model,
            "stem": b.stem,
            "width": b.width,
            "batch_size": b.batch_size,
            "device_class": b.device_class,
            "precision": b.precision,
            "test_examples": b.test_total,
            "badges": {badge.kind: badge.text for badge in badges(b)},
            "layers": list(b.layers),
            "parameters": list(b.parameters),
            "image_side": b.side,
            "attacks": [dict(a) for a in b.attacks],
            "settings": dict(b.shared),
            "suites": list(b.suites),
            "role": b.role.value,
            "headline": h.key if (h := b.headline("robust")) else None,
            "headline_named": bool(b.named),
            "entries": [_entry_json(b, e) for e in b.entries],
        }
        for b in boards
    ]


def _entry_json(board: Board, entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.id,
        "label": entry.label,
        "norm": entry.norm,
        "settings": dict(entry.settings),
        "tuned": dict(entry.tuned),
        "status": entry.status,
        "level": entry.level.value,
        "trials": [
            {
                "trial": r.trial_id,
                "seed": r.seed,
                "status": r.status,
                "reason": r.reason,
                "level": r.level.value,
                "stale": r.stale,
            }
            for r in entry.runs
        ],
        "metrics": {
            key: {
                "label": c.metric.label,
                "value": c.value,
                "low": c.interval.low if c.interval else None,
                "high": c.interval.high if c.interval else None,
                "covers": c.interval.covers if c.interval else None,
                "n": c.n,
                "mean_low": c.alone.low if c.alone else None,
                "mean_high": c.alone.high if c.alone else None,
                "rank": [own.best, own.worst] if (own := board.rank(entry, c.metric)) else None,
                "why_not": why_not(entry, c.metric),
                "seeds": {str(p.seed): p.value for p in c.points},
                "trials": list(c.trials),
            }
            for key, c in entry.cells.items()
        },
    }
