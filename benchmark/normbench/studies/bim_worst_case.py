"""Does the ranking of methods change from BIM to the worst case?

Norms and weight decay change the scale of the logits, and with it the gradients that BIM follows: a network may look
robust because its loss saturates. The worst case over several attacks of one ball does not hang on one loss, so where
both rank the methods alike, BIM's ranking was no matter of scale.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness (several attacks, worst case per image); Croce and
Hein 2020 (the scale of the logits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from normbench.board import MIN_SEEDS, Board, Entry, Metric, why_not
from normbench.board.words import capital, component, quantity
from normbench.pages.charts import Mark, fit, scatter
from normbench.spec.robustness import WORST_CASE
from normbench.studies._judged import Judged
from normbench.studies._stats import Array, kendall, resample
from normbench.studies.base import Cell, Evidence, Figure, Question, Row, Section, Table, Verdict, failures

#: Entries above which Kendall's tau is left out: it looks at all pairs in every draw.
ENTRIES = 60
#: Words in names of quantities that tell of the scale of the logits.
SCALE = ("logit", "margin", "trust.")


class BimWorstCase(Question):
    name: ClassVar[str] = "bim-worst-case"
    summary: ClassVar[str] = "Does the ranking of methods change from BIM to the worst case over several attacks?"
    source: ClassVar[str] = "Carlini et al. 2019, arXiv:1902.06705"
    title: ClassVar[str] = "From BIM to the worst case"
    why: ClassVar[str] = (
        "A weak attack flatters networks whose loss saturates. If other attacks turn the order of the "
        "methods, robustness tables that rest on BIM alone rank the wrong thing."
    )
    reads: ClassVar[tuple[str, ...]] = SCALE
    method: ClassVar[str] = (
        "For every board with BIM and the worst case per image over at least two attacks within the same ball, "
        "at the size at which BIM's accuracies "
        "differ most. Ranks are intervals, as on the boards. A pair of methods has changed places where one is "
        "above the other under BIM and below it in the "
        "worst case, both by the rule of the boards, which holds for all pairs of a board at once. Kendall's tau is 1 "
        "where all pairs of means are in the same order; noise "
        "alone pulls it below 1. The answer is yes where at least one pair has changed places, no where every pair "
        "is told apart in both and in the same order."
    )

    def fits(self, found: Evidence) -> bool:
        return any(_metrics(b) for b in found.boards)

    def sections(self, found: Evidence) -> Iterator[Section]:
        for board in found.boards:
            if both := _metrics(board):
                entries = [e for e in board.entries if all(m.key in e.cells for m in both)]
                if len(entries) > 1:
                    yield _section(found, board, entries, *both)


def _metrics(board: Board) -> tuple[Metric, Metric] | None:
    """BIM and the worst case of one ball and size: where BIM's accuracies differ most."""

    def range_of(metric: Metric) -> float:
        values = [e.cells[metric.key].value for e in board.entries if metric.key in e.cells]
        return max(values) - min(values)

    worst = {(m.threat, m.size): m for m in board.of("robust") if m.attack == WORST_CASE}
    bim = [
        m
        for m in board.of("robust")
        if m.attack.partition("[")[0] in {"bim", "bim-l2", "bim-l1"} and (m.threat, m.size) in worst
    ]
    chosen = max(bim, key=range_of, default=None)
    return (chosen, worst[chosen.threat, chosen.size]) if chosen else None


def _values(entries: Sequence[Entry], metrics: Sequence[Metric]) -> Array:
    """(entries, seeds, metrics), NaN where missing."""
    seeds = sorted({r.seed for e in entries for r in e.runs})
    found = np.full((len(entries), len(seeds), len(metrics)), np.nan)
    for i, entry in enumerate(entries):
        for run in entry.runs:
            for k, metric in enumerate(metrics):
                if metric.key in run.values:
                    found[i, seeds.index(run.seed), k] = run.values[metric.key]
    return found


@dataclass(frozen=True)
class Pairs:
    """How many pairs of entries changed places, kept their order, cannot be told, and were not tested.

    A pair that is called changed but is not was called wrongly on one of two boards, and there on one side: of all
    boards without a change, at most one in twenty shows one.
    """

    changed: int
    kept: int
    open: int
    untested: int

    @property
    def verdict(self) -> Verdict:
        if not self.changed + self.kept + self.open:
            return "not tested"
        return "yes" if self.changed else "cannot be told" if self.open + self.untested else "no"


def pairs(entries: Sequence[Entry], one: Metric, other: Metric) -> Pairs:
    """Of all pairs, by the rule of the boards in both metrics."""
    first, second = np.triu_indices(len(entries), 1)
    signs = []
    for metric in (one, other):
        standings = [None if why_not(e, metric) else e.cells[metric.key].standing for e in entries]
        ends = np.array([(s.interval.low, s.interval.high) if s and s.interval else (np.nan,) * 2 for s in standings])
        sign = 1.0 * (ends[first, 0] > ends[second, 1]) - (ends[first, 1] < ends[second, 0])
        signs.append(np.where(np.isnan(ends[first] + ends[second]).any(axis=1), np.nan, sign))
    both = signs[0] * signs[1]
    changed, kept, level = (int(n.sum()) for n in (both < 0, both > 0, both == 0))
    return Pairs(changed, kept, level, len(first) - changed - kept - level)


def _section(found: Evidence, board: Board, entries: Sequence[Entry], bim: Metric, worst: Metric) -> Section:
    resampled = resample(_values(entries, (bim, worst)))
    tau = resampled.estimate(lambda m: kendall(m[..., 0], m[..., 1])) if len(entries) <= ENTRIES else None
    counted = pairs(entries, bim, worst)
    said = f"From {bim.words} to {worst.words}: "
    if counted.verdict == "not tested":
        said += f"{resampled.why or 'not tested: the values do not vary'}. "
    else:
        said += (
            f"of {len(entries) * (len(entries) - 1) // 2} pairs of methods, {counted.changed} changed places, "
            f"{counted.kept} kept their order, and {counted.open} cannot be told"
            f"{f'; {counted.untested} were not tested' if counted.untested else ''}. "
        )
    if tau:
        said += f"Kendall's tau of the means is {tau.within(-1, 1).text()}."
    tables = [_ranking(entries, bim, worst), *_scales(found, board, entries)]
    tables += failures(found.on(board), lambda r: (f"{r.weight_decay:g}",), ("Weight decay",))
    return Section(
        board.title,
        counted.verdict,
        said.strip(),
        tuple(tables),
        (_figure(found, entries, bim, worst),),
        tuple(_notes(board, worst)),
        (
            Judged(
                "The orders under BIM and in the worst case agree more than by chance",
                "all methods",
                "Kendall's tau",
                tau and tau.within(-1, 1),
                resampled.why,
            ),
        ),
    )


def _ranking(entries: Sequence[Entry], bim: Metric, worst: Metric) -> Table:
    rows: list[Row] = []
    for entry in sorted(entries, key=lambda e: (-e.cells[worst.key].value, e.label)):
        a, b = entry.cells[bim.key], entry.cells[worst.key]
        ranks = [c.rank.text if c.rank and not why_not(entry, c.metric) else "–" for c in (a, b)]
        rows.append(
            (
                Cell(entry.label, entry.flags and f"health: {entry.flags}", a.trials),
                a.display,
                ranks[0],
                b.display,
                ranks[1],
                bim.display(a.value - b.value),
            )
        )
    return Table(
        "Both rankings",
        "Accuracies in % with 95 % intervals over seeds; ranks are intervals of the board. BIM less worst case: "
        "what other attacks find that BIM misses.",
        ("Method", bim.title, "Rank", worst.title, "Rank", "BIM less worst case"),
        tuple(rows),
        frozenset(range(1, 6)),
    )


def _scales(found: Evidence, board: Board, entries: Sequence[Entry]) -> Iterable[Table]:
    """Median over an entry's trials of what was recorded of the scale of the logits."""
    quantities = found.quantities(*SCALE)
    if not quantities:
        return
    by_id = found.by_id
    rows: list[Row] = []
    for entry in entries:
        read = [
            [v for run in entry.runs if run.trial_id in by_id and (v := by_id[run.trial_id].whole(q)) is not None]
            for q in quantities
        ]
        rows.append((Cell(entry.label), *(f"{np.median(v):.3g}" if v else "–" for v in read)))
    caption = (
        f"{board.title}: median over seeds at the end of training. Where these differ, BIM by itself compares scales."
    )
    yield Table(
        "Scale of the logits",
        caption,
        ("Method", *(capital(quantity(q)) for q in quantities)),
        tuple(rows),
        frozenset(range(1, len(quantities) + 1)),
    )


def _figure(found: Evidence, entries: Sequence[Entry], bim: Metric, worst: Metric) -> Figure:
    families = {r.run.trial_id: r.family for r in found.records}
    marks = []
    for e in entries:
        a, b = e.cells[bim.key], e.cells[worst.key]
        ends = [100 * v for c in (a, b) for v in ((c.interval.low, c.interval.high) if c.interval else ())]
        low = ends if len(ends) == 4 else [None] * 4
        marks.append(Mark(e.label, families.get(e.runs[0].trial_id, "unknown"), 100 * a.value, 100 * b.value, *low))
    x = fit(
        [v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None],
        f"{bim.title} (%)",
        floor=0.0,
        ceiling=100.0,
    )
    y = fit(
        [v for m in marks for v in (m.y, m.y_low, m.y_high) if v is not None],
        f"{worst.title} (%)",
        floor=0.0,
        ceiling=100.0,
    )
    caption = "One point is one method with its settings; bars are 95 % intervals over seeds, missing under three."
    return Figure(
        "both", "BIM and worst case", caption, scatter(marks, x, y, front=False), tuple(m.family for m in marks)
    )


def _notes(board: Board, worst: Metric) -> Iterable[str]:
    attacks = dict.fromkeys(
        m.attack
        for m in board.of("robust")
        if m.threat == worst.threat and (m.size or 0) <= (worst.size or 0) and m.attack != worst.attack
    )
    yield f"The worst case is over {', '.join(map(component, attacks))}; a stronger attack may still find more."
    if idle := [e.label for e in board.entries if why_not(e, worst)]:
        yield f"Without a rank, as {MIN_SEEDS} seeds are needed: {', '.join(idle)}."
