"""Differences of a board's entries that a question asks for, all of them judged at once, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from normbench.board import Board, Comparison, Entry, Metric, Pair
from normbench.board.titles import SHORT
from normbench.studies._judged import Judged
from normbench.studies._judged import judged as one_judged
from normbench.studies._stats import Estimate, together
from normbench.studies.base import Cell, Evidence, Row, Table, Verdict, points, probability

#: Differences of accuracy that decide nothing, in points.
MARGIN = 2.0


@dataclass(frozen=True)
class Contrast:
    """A difference that has a name. `trials`: what it was made from."""

    names: tuple[str, ...]
    comparison: Comparison
    trials: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate | None:
        made = self.comparison
        return None if made.mean is None else Estimate.of(made.mean, made.interval)


def values(entry: Entry, metric: Metric) -> dict[int, float]:
    """An entry's values of a metric by seed; nothing where it has none."""
    return {p.seed: p.value for p in entry.cells[metric.key].points} if metric.key in entry.cells else {}


@dataclass(frozen=True)
class Asked:
    """What to set against what: one gap (first entry less second), or of two gaps the first less the second."""

    names: tuple[str, ...]
    metric: Metric
    gaps: tuple[tuple[Entry, Entry], ...]

    def pairs(self) -> list[Pair]:
        """Over the seeds that all of its entries have."""
        read = [(values(a, self.metric), values(b, self.metric)) for a, b in self.gaps]
        gaps = [{s: a[s] - b[s] for s in a.keys() & b.keys()} for a, b in read]
        seeds = sorted(set.intersection(*map(set, gaps)))
        return [Pair(s, gaps[0][s], gaps[1][s] if len(gaps) > 1 else 0.0) for s in seeds]

    def trials(self) -> tuple[str, ...]:
        cells = [e.cells.get(self.metric.key) for gap in self.gaps for e in gap]
        return tuple(t for cell in cells if cell for t in cell.trials)


def judged(asked: Sequence[Asked]) -> list[Contrast]:
    """All of them by the rule of boards, which holds for all at once."""
    if not asked:
        return []
    found = together(asked[0].metric, [a.pairs() for a in asked])
    return [Contrast(a.names, replace(made, metric=a.metric), a.trials()) for a, made in zip(asked, found, strict=True)]


def judged_row(finding: str, made: Contrast) -> Judged:
    """A row of the forest plot: that a difference lies above 0."""
    return one_judged(finding, made.names[0], "points", made.comparison)


def text(made: Contrast) -> str:
    """The accuracy that a difference is of, within a sentence."""
    metric = made.comparison.metric
    return metric.words


def verdict(contrasts: Sequence[Contrast]) -> Verdict:
    """Whether there is any difference: yes where an interval leaves out 0, no where all lie within the margin."""
    found = [e for c in contrasts if (e := c.estimate) and e.low is not None]
    if not found:
        return "not tested"
    if any(e.above_zero or e.below_zero for e in found):
        return "yes"
    small = all(e.lies(-MARGIN / 100, MARGIN / 100) for e in found)
    return "no" if small and len(found) == len(contrasts) else "cannot be told"


def said(contrasts: Sequence[Contrast]) -> str:
    """How many differences there are, and the one that is furthest from 0."""
    found = [(c, e) for c in contrasts if (e := c.estimate) and e.low is not None]
    if not found:
        return (
            next((c.comparison.why for c in contrasts if c.comparison.why), "not tested: nothing was run twice") + "."
        )
    apart = [c for c, e in found if e.above_zero or e.below_zero]
    largest, value = max(found, key=lambda pair: abs(pair[1].value))
    number = f"{len(apart)} of {len(found)} differences {'is' if len(apart) == 1 else 'are'} away from 0"
    return f"{number}; the largest is {', '.join(largest.names)}: {points(value)} points."


def table(title: str, caption: str, head: Sequence[str], contrasts: Sequence[Contrast]) -> Table:
    rows: tuple[Row, ...] = tuple(
        (
            Cell(c.names[0], c.comparison.why, c.trials),
            *c.names[1:],
            points(c.estimate),
            str(len(c.comparison.pairs)),
            probability(c.comparison.p),
        )
        for c in contrasts
    )
    numbers = frozenset(range(len(head), len(head) + 3))
    return Table(title, caption, (*head, "Difference, points", "Seeds", "p, all at once"), rows, numbers)


def tuned(entry: Entry) -> list[str]:
    """The settings that were tuned for an entry, as paths of its specification."""
    paths = {short: path for path, short in SHORT.items()}
    return [paths.get(name, f"train.{name.replace(' ', '_')}") for name in entry.tuned]


def entries(found: Evidence, board: Board) -> list[Entry]:
    """The entries of a board that hold trials of the suite itself; a board may have those of others too."""
    return [e for e in board.entries if any(r.trial_id in found.by_id for r in e.runs)]


def accuracy(board: Board) -> list[Metric]:
    """What a question looks at: the headlines of accuracy and robustness."""
    return [m for m in (board.headline("clean"), board.headline("robust")) if m]
