"""Is the growth of the weights tied to vulnerability, across methods and within them?

The claim: weights that a norm makes scale-invariant can only grow, and their growth amplifies an attack; weight decay
holds it back. Correlations over methods mix the growth with everything else in which methods differ; those within
methods, over weight decays, do not. Neither shows a cause. The intervention does: a finished network whose invariant
weights are rescaled computes the same function, so that growth alone can change no accuracy.

Source: Sun et al. 2020, Lemma 3 and section 3.2; Bonett and Wright 2000 for the interval of Spearman's correlation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from normbench.board import Board, Entry, Metric, t_interval
from normbench.board.words import capital, quantity
from normbench.pages.charts import Mark, fit, scatter
from normbench.studies._decayed import NORM, Unit, decayed, effects_of, effects_table, mean
from normbench.studies._judged import Judged
from normbench.studies._stats import Correlation, Estimate, correlation
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
    varied,
)

#: Recorded quantities that stand for the size of the weights, besides their norms.
RATES = ("effective-lr.rate",)
INTERVENTION = "rescaling"


class WeightDecay(Question):
    name: ClassVar[str] = "weight-decay"
    summary: ClassVar[str] = "Is the growth of the weights tied to vulnerability?"
    source: ClassVar[str] = "Sun et al. 2020, New Interpretations of Normalization Methods in Deep Learning, AAAI 2020"
    title: ClassVar[str] = "Weight decay, growth of the weights and robustness"
    why: ClassVar[str] = (
        "Weights behind a norm can grow without changing what the network computes. If their growth made "
        "networks fragile, weight decay would be a cheap defence."
    )
    reads: ClassVar[tuple[str, ...]] = (NORM, *RATES, INTERVENTION)
    method: ClassVar[str] = (
        "Vulnerability is the share of the test images that are right unperturbed and that the attack turns, at the "
        "attack and size that a board's ranking "
        "is of. Growth is the L2 norm of all weights at the end over that at the start, in octaves; invariant "
        "weights are those that were measured "
        "scale-invariant before training. One unit is a method at one weight decay, mean over its seeds. Across: "
        "over methods, at one weight decay. Within: "
        "over weight decays, both quantities less their method's mean. Intervals of correlations are Fisher's, with "
        "Bonett and Wright's standard error for "
        "Spearman; five degrees of freedom are the least. The answer is yes only where growth is tied to "
        "vulnerability across methods at the smallest weight "
        "decay and within methods, each by the intervals of both coefficients, since one method far from the others "
        "can make Pearson's alone; no where both "
        "are below zero across or within. A tie is no cause: the intervention decides that."
    )

    def fits(self, found: Evidence) -> bool:
        return any(_shaped(b) for b in found.boards)

    def sections(self, found: Evidence) -> Iterator[Section]:
        for board in found.boards:
            if _shaped(board) and (section := _section(found, board)):
                yield section


def _shaped(board: Board) -> bool:
    """At least two methods at two weight decays, with attacks."""
    decays = {(e.spec["norm_label"], e.spec["train"]["weight_decay"]) for e in board.entries}
    methods = [m for m, _ in decays]
    return board.headline("robust") is not None and len({m for m in methods if methods.count(m) > 1}) > 1


def _section(found: Evidence, board: Board) -> Section | None:
    robust, clean = board.headline("robust"), board.headline("clean")
    if robust is None or clean is None:
        return None
    units = _units(found, board, robust, clean)
    records = found.on(board)
    relations = list(_relations(units))
    across, within = primary(relations)
    effects = effects_of(board, units, robust, clean)
    tables = [t for t in (_correlations(relations), effects_table(effects, robust), *_intervention(units)) if t]
    tables += failures(records, lambda r: (f"{r.weight_decay:g}",), ("Weight decay",))
    return Section(
        board.title,
        verdict(across, within),
        _answer(across, within, robust, units),
        tuple(tables),
        tuple(_figures(units, robust)),
        tuple(_notes(units, relations)),
        (*_tied(across, within), *decayed(effects)),
    )


def _tied(across: Correlation | None, within: Correlation | None) -> Iterable[Judged]:
    for where, made in (("across methods", across), ("within methods", within)):
        for name in ("Pearson", "Spearman"):
            estimate = getattr(made, name.lower()) if made else None
            why = "" if made else "not tested: too few methods or weight decays"
            finding = "Networks whose weights grow more are more vulnerable"
            yield Judged(finding, f"{where}, {name}", "correlation", estimate, why)


PRIMARY = "growth of all weights"
Relation = tuple[str, str, Correlation | None]


def _units(found: Evidence, board: Board, robust: Metric, clean: Metric) -> list[Unit]:
    by_id = found.by_id
    made = (_unit(e, [by_id[r.trial_id] for r in e.runs if r.trial_id in by_id], robust, clean) for e in board.entries)
    return [u for u in made if u]


def primary(relations: Iterable[Relation]) -> tuple[Correlation | None, Correlation | None]:
    """Of growth with vulnerability: across methods at the smallest weight decay, and within methods."""
    own = [(kind, c) for name, kind, c in relations if name == PRIMARY]
    across, within = (next((c for kind, c in own if kind.startswith(k)), None) for k in ("across", "within"))
    return across, within


def ties(found: Evidence) -> Iterator[tuple[Board, Correlation | None, Correlation | None]]:
    """Of each board that has the shape: growth and vulnerability across methods, and within them."""
    for board in found.boards:
        robust, clean = board.headline("robust"), board.headline("clean")
        if _shaped(board) and robust and clean:
            yield board, *primary(_relations(_units(found, board, robust, clean)))


def _unit(entry: Entry, records: Sequence[Record], robust: Metric, clean: Metric) -> Unit | None:
    there = [r for r in records if robust.key in r.run.values and r.run.values.get(clean.key)]
    if not there:
        return None
    turned = {r.run.seed: 1 - r.run.values[robust.key] / r.run.values[clean.key] for r in there}
    read: dict[str, list[float | None]] = {
        PRIMARY: [r.run.values.get(f"growth:{NORM}") for r in there],
        "growth of invariant weights": [_invariant_growth(r) for r in there],
        "norm of all weights": [r.last(NORM) for r in there],
        **{f"{quantity(rate)} at the end": [r.last(rate) for r in there] for rate in RATES},
    }
    sizes = {name: mean([math.log2(v) for v in values if v]) for name, values in read.items() if any(values)}
    return Unit(entry, tuple(there), varied(entry.spec, "train.weight_decay"), turned, sizes)


def _invariant_growth(record: Record) -> float | None:
    """Norm of all scale-invariant weights together, end over start."""
    whole = record.run.values.get(f"growth:{NORM}-invariant")
    if whole is not None:
        return whole
    curves = [
        c for (name, layer), c in record.curves.items() if name == NORM and layer in record.invariant and len(c) > 1
    ]
    start = math.fsum(c[0][1] ** 2 for c in curves)
    return math.sqrt(math.fsum(c[-1][1] ** 2 for c in curves) / start) if start else None


def _relations(units: Sequence[Unit]) -> Iterable[Relation]:
    """Of every size with vulnerability: across methods at each weight decay, and within methods."""
    decays = sorted({u.entry.spec["train"]["weight_decay"] for u in units})
    for name in dict.fromkeys(n for u in units for n in u.sizes):
        there = [u for u in units if name in u.sizes]
        for decay in decays:
            own = [u for u in there if u.entry.spec["train"]["weight_decay"] == decay]
            yield (
                name,
                f"across {len(own)} methods, wd {decay:g}",
                correlation([u.sizes[name] for u in own], [u.vulnerability for u in own]),
            )
        methods = [u.method for u in there]
        paired = [u for u in there if methods.count(u.method) > 1]
        text = f"within {len({u.method for u in paired})} methods, {len(paired)} units"
        yield (
            name,
            text,
            correlation([u.sizes[name] for u in paired], [u.vulnerability for u in paired], [u.method for u in paired]),
        )


def verdict(across: Correlation | None, within: Correlation | None) -> Verdict:
    """Of the correlations of growth with vulnerability: see `WeightDecay.method`."""
    if any(c.pearson.below_zero and c.spearman.below_zero for c in (across, within) if c):
        return "no"
    if across is None and within is None:
        return "not tested"
    return (
        "yes"
        if all(c and c.pearson.above_zero and c.spearman.above_zero for c in (across, within))
        else "cannot be told"
    )


def _answer(across: Correlation | None, within: Correlation | None, robust: Metric, units: Sequence[Unit]) -> str:
    named = [
        (
            "across methods without weight decay" if _without(units) else "across methods at the smallest weight decay",
            across,
        ),
        ("within methods", within),
    ]
    said = [
        f"{capital(where)} they correlate by {c.pearson.text()} (Pearson) and {c.spearman.text()} (Spearman)"
        if c
        else f"{capital(where)} it was not tested, as there are too few units for a correlation"
        for where, c in named
    ]
    return (
        f"Growth of all weights, and vulnerability by {robust.words}. {'. '.join(said)}. A correlation says nothing "
        "of causes."
    )


def _without(units: Sequence[Unit]) -> bool:
    return min((u.entry.spec["train"]["weight_decay"] for u in units), default=1) == 0


def _correlations(relations: Sequence[tuple[str, str, Correlation | None]]) -> Table:
    rows: list[Row] = [
        (Cell(name), kind, c.pearson.text() if c else "–", c.spearman.text() if c else "–")
        for name, kind, c in relations
    ]
    caption = (
        "With vulnerability; quantities in octaves. – : fewer than five degrees of freedom, or one does not "
        "vary. Not corrected for their number."
    )
    return Table("Correlations", caption, ("Quantity", "Over", "Pearson", "Spearman"), tuple(rows), frozenset({2, 3}))


def _intervention(units: Sequence[Unit]) -> Iterable[Table]:
    """Everything that was recorded of finished networks whose invariant weights were rescaled."""
    quantities = sorted(
        {
            name
            for u in units
            for r in u.records
            for name, layer in r.curves
            if name.startswith(INTERVENTION) and not layer
        }
    )
    if not quantities:
        return
    rows: list[Row] = []
    for unit in units:
        read = [[v for r in unit.records if (v := r.last(q)) is not None] for q in quantities]
        if any(read):
            shown = (Estimate.of(mean(v), t_interval(v)).text(digits=3) if v else "–" for v in read)
            rows.append((Cell(unit.entry.label, "", tuple(r.run.trial_id for r in unit.records)), *shown))
    caption = (
        "Finished networks, their scale-invariant weights multiplied by a factor; mean over seeds with 95 % "
        "t-interval. Where the function is unchanged, so "
        "is every accuracy, whatever the norm of the weights: growth of an invariant weight by itself cannot be "
        "what makes a network vulnerable."
    )
    yield Table(
        "The intervention: invariant weights rescaled",
        caption,
        ("Method", *(capital(quantity(q)) for q in quantities)),
        tuple(rows),
        frozenset(range(1, len(quantities) + 1)),
    )


def _figures(units: Sequence[Unit], robust: Metric) -> Iterable[Figure]:
    for name, slug in ((PRIMARY, "all"), ("growth of invariant weights", "invariant")):
        there = [u for u in units if name in u.sizes]
        if len(there) < 2:
            continue
        marks = [Mark(u.entry.label, u.records[0].family, 2 ** u.sizes[name], 100 * u.vulnerability) for u in there]
        x = fit([m.x for m in marks], f"{name[:1].upper()}{name[1:]} (end / start)", log=True)
        y = fit([m.y for m in marks], f"Turned, {robust.title} (% of the right ones)", floor=0.0, ceiling=100.0)
        caption = "One point is one method at one weight decay, mean over seeds."
        families = tuple(m.family for m in marks)
        yield Figure(
            slug,
            f"{name[:1].upper()}{name[1:]} and vulnerability",
            caption,
            scatter(marks, x, y, front=False),
            families,
        )


def _notes(units: Sequence[Unit], relations: Sequence[tuple[str, str, Correlation | None]]) -> Iterable[str]:
    if any(c is None for _, _, c in relations):
        yield (
            "Correlations are missing where too few methods or weight decays were run: five degrees of freedom "
            "are the least."
        )
    if not any(name.startswith(INTERVENTION) for u in units for r in u.records for name, _ in r.curves):
        yield (
            "The intervention (measure `rescaling`) was not recorded in these trials: from correlations alone no "
            "cause can be told."
        )
    if not any("growth of invariant weights" in u.sizes for u in units):
        yield (
            "Which weights are scale-invariant was not recorded layer by layer: growth is of all weights, of "
            "which theory speaks of some."
        )
    flagged = [u.entry.label for u in units if u.entry.flags]
    if flagged:
        yield (
            f"Health checks on robustness did not pass in some trials of {', '.join(flagged)}: their "
            "vulnerability may be larger than shown."
        )
