"""Do networks whose weights keep their norm, grow freely, or are decayed differ in accuracy and robustness?

A norm behind a layer makes its weights scale-invariant: without decay their norm can only grow, decay holds it at an
equilibrium, and a projection after every step keeps it where it began ("optimization on a sphere"). All three train
the same functions at different effective rates.

Source: Sun et al. 2020, section 3 (growth and vulnerability; optimization on a sphere); van Laarhoven 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import ClassVar

from normbench.board import Board, Entry
from normbench.studies._contrasts import (
    MARGIN,
    Asked,
    Contrast,
    accuracy,
    entries,
    judged,
    judged_row,
    said,
    table,
    text,
    tuned,
    verdict,
)
from normbench.studies.base import Evidence, Question, Section, failures, varied

#: The weight method that keeps norms by projection.
FIXED = "sphere"
KINDS = ("fixed", "free", "decayed")


class WeightNorms(Question):
    name: ClassVar[str] = "weight-norms"
    summary: ClassVar[str] = "Does it matter whether weights keep their norm, grow freely, or are decayed?"
    source: ClassVar[str] = "Sun et al. 2020, New Interpretations of Normalization Methods in Deep Learning, AAAI 2020"
    title: ClassVar[str] = "Fixed, free and decayed weight norms"
    why: ClassVar[str] = (
        "If growing weights made networks fragile, holding their norm would help, and at no cost: behind a norm their "
        "size does not change the function."
    )
    method: ClassVar[str] = (
        f"Fixed: the method `{FIXED}` beside the norm, which projects each weight back to its first norm after every "
        "step. Free: no weight decay. Decayed: with weight decay, the largest that was run. Each is set against each, "
        "with the same norm and seed, in clean and robust accuracy; all intervals hold at once. The "
        f"answer is yes where one difference is away from 0, no where all lie within {MARGIN:g} points."
    )

    def fits(self, found: Evidence) -> bool:
        return any(_shaped(entries(found, b)) for b in found.boards)

    def sections(self, found: Evidence) -> Iterator[Section]:
        for board in found.boards:
            if _shaped(entries(found, board)) and (section := _section(found, board)):
                yield section


def kinds(given: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """Norm -> kind -> entry, of the entries that share everything but decay, rate and what was tuned: of several such
    groups the one with the most norms.
    """
    groups: dict[str, dict[str, dict[str, Entry]]] = {}
    for entry in sorted(given, key=lambda e: float(e.spec["train"]["weight_decay"])):
        fixed = FIXED in entry.methods
        norm = "+".join(m for m in entry.methods if m != FIXED)
        kind = "fixed" if fixed else "decayed" if entry.spec["train"]["weight_decay"] else "free"
        free = ("train.weight_decay", "train.lr", "norm", "norm_label", *tuned(entry))
        found = groups.setdefault(varied(entry.spec, *free), {})
        if norm and not (fixed and kind in found.get(norm, {})):
            found.setdefault(norm, {})[kind] = entry
    return max(groups.values(), key=lambda g: sum("fixed" in own and len(own) > 1 for own in g.values()), default={})


def _shaped(given: Sequence[Entry]) -> bool:
    """Fixed norms and another kind of the same method."""
    return any("fixed" in own and len(own) > 1 for own in kinds(given).values())


def contrasts(board: Board, given: Sequence[Entry]) -> list[Contrast]:
    """Of each method that was run with fixed norms: every kind against every other."""
    return judged(
        [
            Asked((norm, metric.title, f"{a} less {b}"), metric, ((own[a], own[b]),))
            for metric in accuracy(board)
            for norm, own in kinds(given).items()
            if "fixed" in own
            for a, b in combinations([k for k in KINDS if k in own], 2)
        ]
    )


def _section(found: Evidence, board: Board) -> Section | None:
    every = contrasts(board, entries(found, board))
    if not every:
        return None
    caption = "Mean over seeds of the difference with the same seed; intervals hold for all rows at once."
    tables = (
        table("Kinds of weight norms", caption, ("Method", "Accuracy", "Difference"), every),
        *failures(found.on(board), lambda r: (f"{r.weight_decay:g}",), ("Weight decay",)),
    )
    notes = ("Rates were chosen for each kind where the suite tunes them; else a kind may suffer from its rate.",)
    findings = tuple(
        judged_row(f"{c.names[2].replace(' less ', ' norms give more ' + text(c) + ' than ').capitalize()} ones", c)
        for c in every
    )
    return Section(board.title, verdict(every), said(every), tables, (), notes, findings)
