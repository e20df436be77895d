"""Should the batch size match the width?

The claim: with B images a batch, the covariance of a layer's n inputs has rank min(n, B - 1) at most, so that a batch
well below the width leaves most directions of a weight without effect, and one well above costs generalisation; hence B
should be close to n. Batch size is confounded with the learning rate, so there are two designs: the optimizer's batch
varies and the rate is tuned in every cell, or the optimizer's batch is fixed and only the norm's varies.

Source: Sun et al. 2020, section 2.2 and conclusion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar

from normbench.board import Metric
from normbench.board.words import quantity
from normbench.studies._batch_width_figures import clean_accuracy, figures
from normbench.studies._grid import NEAR, SLOPE, Grid, Readings, grids, norm_batch, read
from normbench.studies._judged import Judged
from normbench.studies._stats import Estimate, resample
from normbench.studies.base import Cell, Evidence, Question, Record, Row, Section, Table, Verdict, failures, points

#: How a width is counted. The first decides; the second shows whether the answer hangs on it.
SENSES = {"first": "channels of the first stage", "widest": "channels of the widest stage"}
#: The slope where the best batch goes as the square root of the width.
ROOT = 0.5
#: Methods that get a heat map and a panel of curves; the others are in the tables.
DRAWN = 6
#: Recorded quantities that stand beside accuracy and robustness.
BESIDE = ("disturbance", "rank")


class BatchWidth(Question):
    name: ClassVar[str] = "batch-width"
    summary: ClassVar[str] = "Should the batch size match the width of the network?"
    source: ClassVar[str] = "Sun et al. 2020, New Interpretations of Normalization Methods in Deep Learning, AAAI 2020"
    title: ClassVar[str] = "Batch size and width"
    why: ClassVar[str] = (
        "If the best batch size followed the width of a network, one would not have to search for it. The "
        "paper argues so from the rank of a batch's inputs."
    )
    reads: ClassVar[tuple[str, ...]] = BESIDE
    method: ClassVar[str] = (
        "A width is the number of channels of the network's first stage; the matching batch is the one of the grid "
        "nearest to it, within half an octave. "
        "Four numbers are read off each method's grid. Next to neighbours: accuracy at the matching batch less the "
        "mean at the next smaller and the next "
        "larger batch, which is above zero on every curve that has a hump there. Matched: accuracy at a width's own "
        "matching batch less that at the batches "
        "that match the other widths, in which whatever a batch size or a width does by itself cancels. The best batch "
        "of a width is where the parabola through the best cell and its two neighbours is highest, known to a quarter "
        "of a step of the grid at most. Slope: of log2(best batch) on log2(width); 1 if the best batch is a constant "
        "times the width, 1/2 if it goes as its square root, 0 if it does not depend on it. Ratio: best batch over "
        "width, geometric mean over widths. "
        "Intervals are 95 % over seeds: means are drawn with each width's own spread and correlations, and the "
        "percentiles widened to Student's t by Satterthwaite's degrees of freedom. "
        "Two questions are answered. Does the best batch follow the width? Yes where the slope lies above 0, no where "
        "it does not and lies below 1/2. Does it equal the width? Yes only where the slope holds 1 "
        "and lies above 1/2, the ratio lies within half an octave of 1, and both contrasts are above zero; no "
        "where the slope leaves out 1, the ratio lies more than half an octave from 1, or the neighbours are "
        "better. "
        "The second is the verdict. A best batch at an end of the grid may lie beyond it: slope and ratio then answer "
        "nothing with no, and nothing at all where that is so for half of the widths."
    )

    def fits(self, found: Evidence) -> bool:
        return any(_shaped(records) for records in found.settings.values())

    def sections(self, found: Evidence) -> Iterator[Section]:
        for heading, records in found.settings.items():
            if _shaped(records) and (made := grids(records)):
                yield _section(found, heading, records, made)


def _shaped(records: Sequence[Record]) -> bool:
    """At least two widths, and three batches of the optimizer or of the norm."""
    if len({r.spec["model"]["width"] for r in records}) < 2:
        return False
    return len({r.spec["batch_size"] for r in records}) >= 3 or len({b for r in records if (b := norm_batch(r))}) >= 3


def untestable(readings: Readings) -> str:
    """Why nothing can be said: `not tested: 2 seeds, 3 needed`; empty where it can."""
    if readings.resampled.why:
        return readings.resampled.why
    return f"not tested: {len(readings.best)} widths, {SLOPE} needed" if len(readings.best) < SLOPE else ""


def follows(readings: Readings) -> Verdict:
    """Whether the best batch grows with the width, at whatever rate: see `BatchWidth.method`."""
    slope = readings.slope
    if untestable(readings):
        return "not tested"
    if slope is None or slope.low is None or slope.high is None or readings.censored:
        return "cannot be told"
    if slope.above_zero:
        return "yes"
    return "no" if slope.high < ROOT and not readings.ends else "cannot be told"


def equals(readings: Readings) -> Verdict:
    """Whether the best batch is the width, and not another multiple or power of it: see `BatchWidth.method`."""
    slope, offset, neighbours, matched = readings.slope, readings.offset, readings.neighbours, readings.matched
    if untestable(readings):
        return "not tested"
    if neighbours is not None and neighbours.below_zero:
        return "no"
    if readings.censored or slope is None or slope.low is None or offset is None:
        return "cannot be told"
    humps = neighbours is not None and neighbours.above_zero and matched is not None and matched.above_zero
    if slope.holds(1) and slope.low > ROOT and offset.lies(-NEAR, NEAR) and humps:
        return "yes"
    far = offset.lies(-math.inf, -NEAR) or offset.lies(NEAR, math.inf)
    return "no" if (far or not slope.holds(1)) and not readings.ends else "cannot be told"


def _section(found: Evidence, heading: str, records: Sequence[Record], made: Sequence[Grid]) -> Section:
    robust = found.robust(records)
    resampled = [resample(g.values(clean_accuracy)) for g in made]
    clean = {sense: [read(g, r, sense) for g, r in zip(made, resampled, strict=True)] for sense in SENSES}
    decided = [(g, r, equals(r)) for g, r in zip(made, clean["first"], strict=True)]
    claims = [d for d in decided if not d[0].control] or decided
    controls = [g.label for g, r, _ in decided if follows(r) == "yes" and g.control]
    drawn = sorted(zip(made, clean["first"], strict=True), key=lambda pair: (pair[0].control, pair[0].design))[:DRAWN]
    tables = [_answers(decided), *_best_batches(decided)]
    tables += [t for t in (_others(found, made, robust), _widest(made, clean["widest"]), _rates(made)) if t]
    tables += failures(
        records, lambda r: (f"×{r.spec['model']['width']:g}", str(r.spec["batch_size"])), ("Width", "Batch")
    )
    return Section(
        heading,
        _overall([v for *_, v in claims]),
        _answer(claims, controls),
        tuple(tables),
        tuple(figures(drawn, decided)),
        tuple(_notes(decided)),
        tuple(_findings([(g, r) for g, r, _ in decided])),
    )


def _findings(made: Sequence[tuple[Grid, Readings]]) -> Iterable[Judged]:
    for finding, unit, attribute in (
        ("The best batch grows with the width", "slope", "slope"),
        ("A matching batch beats its neighbours", "points", "neighbours"),
        ("A width's own matching batch beats those of other widths", "points", "matched"),
    ):
        for grid, readings in made:
            found: Estimate | None = getattr(readings, attribute)
            factor = 100.0 if unit == "points" else 1.0
            why = untestable(readings) or ("" if found and found.low is not None else "not tested: not in the grid")
            yield Judged(finding, grid.label, unit, found and found.times(factor), why)


def _overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several methods: what all that were tested say, or that it cannot be told."""
    tested = {v for v in verdicts if v != "not tested"}
    if not tested:
        return "not tested"
    return tested.pop() if len(tested) == 1 else "cannot be told"


#: The two answers in words, by whether the best batch follows the width and whether it equals it.
FOLLOWS: dict[Verdict, str] = {
    "yes": "the best batch grows with the width",
    "no": "the best batch does not grow with the width",
    "cannot be told": "whether the best batch grows with the width cannot be told",
}
EQUALS: dict[Verdict, str] = {
    "yes": "it equals the width",
    "no": "it does not equal the width",
    "cannot be told": "whether it equals the width cannot be told",
}


def _answer(claims: Sequence[tuple[Grid, Readings, Verdict]], controls: Sequence[str]) -> str:
    said = []
    for grid, readings, equal in claims:
        parts = []
        if readings.neighbours:
            parts.append(f"matching batch against its neighbours {points(readings.neighbours)} points")
        if readings.matched:
            parts.append(f"matched against swapped {points(readings.matched)} points")
        if readings.slope:
            parts.append(
                f"slope {readings.slope.text()}{' (best batch at an end of the grid)' if readings.censored else ''}"
            )
        if readings.offset:
            parts.append(f"best batch over width {_ratio(readings.offset)}")
        words = untestable(readings) or f"{FOLLOWS[follows(readings)]}, {EQUALS[equal]}"
        said.append(f"{grid.label}: {words} ({'; '.join(parts) or 'the grid holds no matching batch'})")
    if controls:
        named = ", ".join(controls)
        said.append(
            f"The best batch follows the width for {named} too, whose norm sees no other batch: a match is not the "
            "norm's doing"
        )
    return ". ".join(said) + "."


def _ratio(octaves: Estimate) -> str:
    """A difference of binary logarithms as a ratio: `1.20 [0.91, 1.58]`."""
    shown = f"{2**octaves.value:.2f}"
    if octaves.low is None or octaves.high is None:
        return f"{shown} (no interval)"
    return f"{shown} [{2**octaves.low:.2f}, {2**octaves.high:.2f}]"


def _answers(decided: Sequence[tuple[Grid, Readings, Verdict]]) -> Table:
    rows: list[Row] = [
        (
            Cell(
                g.label,
                f"control: {g.control}" if g.control else "the norm's batch varies" if g.design == "norm" else "",
            ),
            points(r.neighbours),
            points(r.matched),
            r.slope.text() if r.slope else "–",
            _ratio(r.offset) if r.offset else "–",
            _told(r, follows(r)),
            _told(r, v),
        )
        for g, r, v in decided
    ]
    return Table(
        "The answer in numbers: clean accuracy",
        "Differences in percentage points. – : the grid does not hold what is needed (three widths for a slope, "
        "both neighbours of a matching batch). Follows: the best batch grows with the width. Equals: it is the width.",
        ("Method", "Next to neighbours", "Matched", "Slope", "Best batch / width", "Follows", "Equals"),
        tuple(rows),
        frozenset({1, 2, 3, 4}),
    )


def _told(readings: Readings, said: Verdict) -> Cell:
    if why := untestable(readings):
        return Cell(why)
    return Cell(said, "best batch at an end of the grid" if readings.censored and readings.slope else "")


def _best_batches(decided: Sequence[tuple[Grid, Readings, Verdict]]) -> list[Table]:
    widths = sorted({b.width for _, r, _ in decided for b in r.best})
    if not widths:
        return []
    rows: list[Row] = []
    for g, r, _ in decided:
        best = {b.width: f"{b.batch} (end)" if b.end else f"{b.batch} ({b.peak:.0f})" for b in r.best}
        rows.append((Cell(g.label), *(best.get(n, "–") for n in widths)))
    caption = (
        "Batch with the best mean clean accuracy, and in brackets where the parabola through it and its neighbours is "
        "highest. (end): at an end of the grid, the best may lie beyond it."
    )
    return [
        Table(
            "Best batch at each width",
            caption,
            ("Method", *(f"{n} channels" for n in widths)),
            tuple(rows),
            frozenset(range(1, len(widths) + 1)),
        )
    ]


def _others(found: Evidence, made: Sequence[Grid], robust: Metric | None) -> Table | None:
    outcomes: list[tuple[str, Callable[[Record], float | None], float]] = []
    if robust:
        outcomes.append((f"{robust.title}, points", lambda r: r.run.values.get(robust.key), 100.0))
    outcomes += [(quantity(q), lambda r, q=q: r.whole(q), 1.0) for q in found.quantities(*BESIDE)]  # type: ignore[misc]
    rows: list[Row] = []
    for title, outcome, factor in outcomes:
        for grid in made:
            readings = read(grid, resample(grid.values(outcome)), "first")
            if readings.neighbours or readings.matched:
                rows.append(
                    (
                        Cell(title),
                        Cell(grid.label),
                        *(_signed(e, factor) for e in (readings.neighbours, readings.matched)),
                    )
                )
    if not rows:
        return None
    caption = "The same contrasts. Disturbance and rank explain; more of them is neither good nor bad."
    return Table(
        "Robustness and what the layers see",
        caption,
        ("Outcome", "Method", "Next to neighbours", "Matched"),
        tuple(rows),
        frozenset({2, 3}),
    )


def _signed(estimate: Estimate | None, factor: float) -> str:
    return "–" if estimate is None else estimate.text(factor, digits=2 if factor == 100 else 3, sign=True)


def _widest(made: Sequence[Grid], readings: Sequence[Readings]) -> Table | None:
    rows: list[Row] = [
        (Cell(g.label), points(r.neighbours), points(r.matched), _told(r, equals(r)))
        for g, r in zip(made, readings, strict=True)
        if r.neighbours or r.matched
    ]
    caption = (
        "Clean accuracy, where the width is the number of channels of the widest stage. The slope is the same "
        "where all stages grow together."
    )
    head = ("Method", "Next to neighbours", "Matched", "Equals")
    return Table("Another sense of width", caption, head, tuple(rows), frozenset({1, 2})) if rows else None


def _rates(made: Sequence[Grid]) -> Table | None:
    """Learning rates by batch, where they are not the same everywhere."""
    swept = [g for g in made if len({r.spec["train"]["lr"] for r in g.records}) > 1]
    batches = sorted({b for g in swept for b in g.batches})
    rows: list[Row] = []
    for grid in swept:
        for w in grid.widths:
            rates = {b: sorted({r.spec["train"]["lr"] for r in grid.cells.get((w, b), ())}) for b in batches}
            rows.append((Cell(grid.label), f"×{w:g}", *("; ".join(f"{v:g}" for v in rates[b]) or "–" for b in batches)))
    caption = "A rate that stands at an end of the list that was tried may not be the best one."
    head = ("Method", "Width", *(f"batch {b}" for b in batches))
    return (
        Table("Learning rate of each cell", caption, head, tuple(rows), frozenset(range(1, len(head))))
        if rows
        else None
    )


def _notes(decided: Sequence[tuple[Grid, Readings, Verdict]]) -> Iterable[str]:
    constant = [
        g.label
        for g, *_ in decided
        if g.design == "sgd" and not g.control and len({r.spec["train"]["lr"] for r in g.records}) == 1
    ]
    if constant:
        yield (
            f"One learning rate for all batch sizes ({', '.join(constant)}): the best rate grows with the batch, so "
            "that these numbers mix the two. "
            "Tuned rates, or the design in which the norm's batch alone varies, take them apart."
        )
    for chosen in dict.fromkeys(g.chosen for g, *_ in decided if g.chosen):
        yield f"Learning rate: {chosen}."
    if any(g.control for g, *_ in decided):
        yield (
            "The batch of a control's norm does not vary, or it has none: what batch and width do to it is the "
            "optimizer's doing and nothing of the norm's."
        )
    if any(not r.resampled.why and (r.resampled.counts == 1).any() for _, r, _ in decided):
        yield (
            "Some cells have one seed: how far that may be off is drawn from the spreads of the other cells of its "
            "width and of its batch."
        )
    yield (
        "In a convolution each channel's statistics are of batch x positions values, so that the rank is full long "
        "before the batch reaches the width; the "
        "measure `rank` says what is left of each weight."
    )
