"""Read off the boards."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.board import Pair
from normbench.board.layout import bims_of
from normbench.claims.base import Part, Trained, compared
from normbench.studies import Evidence
from normbench.studies._paper import DIFFERENCE
from normbench.studies._stats import together


class VulnerableEverywhere(Trained):
    name = "vulnerable-everywhere"
    summary = "All scale-invariant methods lose accuracy under BIM, not batch norm alone"
    source = "sun"
    theme = "robustness"
    place = "Section 3.2, Tables 1 and 2"
    study = "paper"

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        for board in found.boards:
            bims, clean = bims_of(board), board.headline("clean")
            if not bims or clean is None:
                continue
            keys = (clean.key, bims[-1].key)
            families = [
                [Pair(r.seed, *(r.values[k] for k in keys)) for r in e.runs if r.values.keys() >= {*keys}]
                for e in board.entries
            ]
            for entry, made in zip(board.entries, together(DIFFERENCE, families), strict=True):
                yield board.title, compared(f"{entry.label}: clean less {bims[-1].words}, points", made, 100.0)
