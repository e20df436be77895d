"""Does stronger whitening disturb a network more?

Statistics of a batch make an image's output depend on the other images. The claim: whitening does so more than
standardising, in the order PCA, Cholesky, ZCA, standardising (batch norm), and more with larger groups, while it
conditions the activations better; group size trades one for the other.

Source: Huang et al. 2020, An Investigation into the Stochasticity of Batch Whitening, CVPR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import numpy as np

from normbench.board import Board, Comparison, Entry, Metric, Pair, t_interval
from normbench.board.words import capital
from normbench.board.words import quantity as words
from normbench.pages.charts import Mark, fit, scatter
from normbench.studies._judged import Judged, judged
from normbench.studies._stats import Array, Estimate, resample, slope, together
from normbench.studies.base import (
    Cell,
    Evidence,
    Figure,
    Question,
    Record,
    Row,
    Section,
    Table,
    Verdict,
    failures,
    percent,
    probability,
)

DISTURBANCE, CONDITIONING = "disturbance", "conditioning"
#: Most disturbing first, by the claim.
ORDER = ("bw-pca", "bw-cd", "bw-zca", "bn")


@dataclass(frozen=True)
class Kind:
    """A method with its parameters, and what was recorded of its networks at the end: quantity -> seed -> value."""

    entry: Entry
    records: tuple[Record, ...]
    read: dict[str, dict[int, float]]

    @property
    def name(self) -> str:
        return self.records[0].methods[-1]

    @property
    def group(self) -> int | None:
        """Channels that are whitened together, as asked for; None where it was left to the method."""
        return self.records[0].spec["norm"][-1]["params"].get("group")  # type: ignore[no-any-return]


class Stochasticity(Question):
    name: ClassVar[str] = "stochasticity"
    summary: ClassVar[str] = "Does stronger whitening disturb a network more?"
    source: ClassVar[str] = "Huang et al. 2020, arXiv:2003.12327"
    title: ClassVar[str] = "Stochasticity and conditioning of whitening"
    why: ClassVar[str] = (
        "Whitening makes a network train on noise from the rest of the batch. How much noise decides whether "
        "it regularises, or makes training and testing differ."
    )
    reads: ClassVar[tuple[str, ...]] = (DISTURBANCE, CONDITIONING)
    method: ClassVar[str] = (
        "Disturbance is how much an output moves when the other images of its batch are drawn again; conditioning "
        "is how unevenly the activations spread over "
        "directions; both at the end of training, mean over layers where they were recorded by layer. The claimed "
        "order (PCA, Cholesky, ZCA, batch norm) is "
        "tested pair by pair with the same seeds and default groups, all steps at once. The effect of the group size "
        "is the slope of log2(disturbance) on "
        "log2(group size), with a 95 % interval over seeds (Student's t). The answer is yes where every pair stands in "
        "the claimed order, no where one is reversed."
    )

    def fits(self, found: Evidence) -> bool:
        return any(_shaped(b) for b in found.boards)

    def sections(self, found: Evidence) -> Iterator[Section]:
        quantities = found.quantities(DISTURBANCE, CONDITIONING)
        for board in found.boards:
            if _shaped(board) and (kinds := _kinds(found, board, quantities)):
                yield _section(found, board, kinds, quantities)


def _shaped(board: Board) -> bool:
    """Whitening of at least two kinds or group sizes, and a measure of it."""
    whitening = {e.norm for e in board.entries if e.methods and e.methods[-1] in {*ORDER[:-1], "iternorm"}}
    measured = any(m["name"] in {DISTURBANCE, CONDITIONING} for e in board.entries for m in e.spec["measures"])
    return len(whitening) > 1 and measured


def _kinds(found: Evidence, board: Board, quantities: Sequence[str]) -> list[Kind]:
    by_id = {r.run.trial_id: r for r in found.records if r.run.ok}
    kinds = []
    for entry in board.entries:
        records = tuple(by_id[r.trial_id] for r in entry.runs if r.trial_id in by_id)
        read = {q: {r.run.seed: v for r in records if (v := r.whole(q)) is not None} for q in quantities}
        if any(read.values()):
            kinds.append(Kind(entry, records, read))
    return kinds


def _section(found: Evidence, board: Board, kinds: Sequence[Kind], quantities: Sequence[str]) -> Section:
    primary = next((q for q in quantities if q.startswith(DISTURBANCE)), None)
    steps = _steps(kinds, primary) if primary else []
    slopes = list(_slopes(kinds, quantities))
    tables = [_readings(board, kinds, quantities)]
    tables += [t for t in (_order(steps, primary or ""), _groups(slopes)) if t]
    tables += failures(found.on(board), lambda _: (), ())
    figures = tuple(_figures(board, kinds, primary)) if primary else ()
    notes = [
        "A larger disturbance is neither good nor bad: it regularises, and it makes training and evaluation differ. "
        "Accuracy stands beside it."
    ]
    if not primary:
        notes.append("Disturbance was not recorded in these trials.")
    return Section(
        board.title,
        verdict([c for *_, c in steps]),
        _answer(steps, slopes, primary),
        tuple(tables),
        figures,
        tuple(notes),
        tuple(_findings(steps, slopes, primary)),
    )


def _findings(
    steps: Sequence[tuple[str, str, Comparison]],
    slopes: Sequence[tuple[str, str, Estimate | None]],
    primary: str | None,
) -> Iterable[Judged]:
    for a, b, made in steps:
        yield judged(
            "The disturbance falls in the order PCA, Cholesky, ZCA, batch norm", f"{a} over {b}", "octaves", made
        )
    for name, q, rise in slopes:
        if q == primary:
            finding = "Whitening more channels together disturbs more"
            why = "" if rise and rise.low is not None else "not tested: too few seeds"
            yield Judged(finding, name, "octaves for twice the channels", rise, why)


def _steps(kinds: Sequence[Kind], quantity: str) -> list[tuple[str, str, Comparison]]:
    """Neighbours in the claimed order, log2 of the first less log2 of the second, all steps judged at once."""
    there = [k for name in ORDER for k in kinds if k.name == name and k.group is None]
    families = []
    for a, b in pairwise(there):
        x, y = a.read[quantity], b.read[quantity]
        seeds = [s for s in sorted(x.keys() & y.keys()) if x[s] > 0 and y[s] > 0]
        families.append([Pair(s, math.log2(x[s]), math.log2(y[s])) for s in seeds])
    made = together(Metric(quantity, "weight-norm", quantity), families)
    return [(a.entry.label, b.entry.label, c) for (a, b), c in zip(pairwise(there), made, strict=True)]


def read(
    found: Evidence,
) -> Iterator[tuple[Board, list[tuple[str, str, Comparison]], list[tuple[str, Estimate | None]]]]:
    """Of each board that has the shape: the steps of the claimed order, and of each method the slope of disturbance on
    group size.
    """
    quantities = found.quantities(DISTURBANCE)
    for board in found.boards if quantities else ():
        if _shaped(board) and (kinds := _kinds(found, board, quantities)):
            slopes = [(name, e) for name, q, e in _slopes(kinds, quantities) if q == quantities[0]]
            yield board, _steps(kinds, quantities[0]), slopes


def verdict(steps: Sequence[Comparison]) -> Verdict:
    """Yes where every step of the claimed order is there, no where one is reversed; not tested where no step is."""
    said = [c.verdict for c in steps]
    if "lower" in said:
        return "no"
    if all(c.why for c in steps):
        return "not tested"
    return "yes" if len(said) == len(ORDER) - 1 and set(said) == {"higher"} else "cannot be told"


def _slopes(kinds: Sequence[Kind], quantities: Sequence[str]) -> Iterable[tuple[str, str, Estimate | None]]:
    for name in sorted({k.name for k in kinds}):
        sized = sorted(((k.group, k) for k in kinds if k.name == name and k.group), key=lambda pair: pair[0])
        for quantity in quantities:
            there = [(g, k.read[quantity]) for g, k in sized if k.read[quantity] and min(k.read[quantity].values()) > 0]
            if len({g for g, _ in there}) < 3:
                continue
            seeds = sorted({s for _, read in there for s in read})
            values = np.array([[[math.log2(read[s]) if s in read else math.nan for _, read in there] for s in seeds]])
            groups = np.log2(np.array([g for g, _ in there], float))
            yield name, quantity, resample(values).estimate(partial(_rise, groups))


def _rise(groups: Array, means: Array) -> Array:
    return slope(groups, means[..., 0, :])


def _answer(
    steps: Sequence[tuple[str, str, Comparison]],
    slopes: Sequence[tuple[str, str, Estimate | None]],
    primary: str | None,
) -> str:
    said = [f"The disturbance of {a} is {_factor(c)} times that of {b}" for a, b, c in steps if c.mean is not None]
    said += [
        f"Twice the channels whitened together give {_power(e)} times the disturbance with {n}"
        for n, q, e in slopes
        if e and q == primary
    ]
    if not primary:
        said.append("The claimed order was not tested: disturbance was not recorded")
    elif not steps:
        said.append("The claimed order was not tested: no two of its methods were run with default groups")
    elif all(c.why for *_, c in steps):
        said += dict.fromkeys(f"The claimed order was {c.why}" for *_, c in steps)
    return f"{'. '.join(said)}."


def _factor(made: Comparison) -> str:
    return _power(Estimate.of(made.mean or 0.0, made.interval))


def _power(octaves: Estimate) -> str:
    """A difference of binary logarithms as a factor: `1.20 [0.91, 1.58]`."""
    if octaves.low is None or octaves.high is None:
        return f"{2**octaves.value:.2f} (no interval)"
    return f"{2**octaves.value:.2f} [{2**octaves.low:.2f}, {2**octaves.high:.2f}]"


def _readings(board: Board, kinds: Sequence[Kind], quantities: Sequence[str]) -> Table:
    clean = board.headline("clean")
    rows: list[Row] = []
    for kind in kinds:
        cell = kind.entry.cells.get(clean.key) if clean else None
        shown = [
            Estimate.of(math.fsum(v) / len(v), t_interval(v)).text(digits=3)
            if (v := list(kind.read[q].values()))
            else "–"
            for q in quantities
        ]
        trials = tuple(r.run.trial_id for r in kind.records)
        rows.append((Cell(kind.entry.label, "", trials), *shown, f"{cell.display} %" if cell else "–"))
    head = ("Method", *(capital(words(q)) for q in quantities), "Clean accuracy")
    return Table(
        "What was measured", "Mean over seeds with 95 % t-interval.", head, tuple(rows), frozenset(range(1, len(head)))
    )


def _order(steps: Sequence[tuple[str, str, Comparison]], quantity: str) -> Table | None:
    rows: list[Row] = [
        (Cell(f"{a} against {b}"), _factor(c) if c.mean is not None else "–", probability(c.p), c.verdict)
        for a, b, c in steps
    ]
    caption = f"{capital(words(quantity))}: ratio over seeds, with an interval and p for all steps at once."
    return (
        Table(
            "The claimed order", caption, ("Pair", "Ratio", "p", "First against second"), tuple(rows), frozenset({1, 2})
        )
        if rows
        else None
    )


def _groups(slopes: Sequence[tuple[str, str, Estimate | None]]) -> Table | None:
    rows: list[Row] = [(Cell(name), words(quantity), e.text() if e else "–") for name, quantity, e in slopes]
    caption = "Slope of log2(quantity) on log2(group size), over at least three sizes; 95 % t-interval over seeds."
    return (
        Table("Effect of the group size", caption, ("Method", "Quantity", "Slope"), tuple(rows), frozenset({2}))
        if rows
        else None
    )


def _figures(board: Board, kinds: Sequence[Kind], primary: str) -> Iterable[Figure]:
    clean = board.headline("clean")
    marks = []
    for kind in kinds:
        cell = kind.entry.cells.get(clean.key) if clean else None
        values = list(kind.read[primary].values())
        if cell and values and min(values) > 0:
            marks.append(
                Mark(
                    kind.entry.label,
                    kind.records[0].family,
                    math.fsum(values) / len(values),
                    float(percent(cell.value)),
                )
            )
    if len(marks) < 2:
        return
    x = fit([m.x for m in marks], f"{capital(words(primary))} (log)", log=True)
    y = fit([m.y for m in marks], "Clean accuracy (%)", floor=0.0, ceiling=100.0)
    caption = "One point is one method with its settings, mean over seeds."
    yield Figure(
        "disturbance",
        "Disturbance and accuracy",
        caption,
        scatter(marks, x, y, front=False),
        tuple(m.family for m in marks),
    )
