"""Read off the study of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims._paper import findings
from normbench.claims.base import Part, Trained
from normbench.studies import Evidence


class DecayLessGrowth(Trained):
    name = "decay-less-growth"
    summary = "With weight decay the norm of the weights settles or falls"
    source = "sun"
    theme = "dynamics"
    place = "Section 3.2, Figure 3"
    study = "paper"
    note = "In print: a curve of one network for each method. Judged: it grows less than without."

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        return findings(found, "with weight decay it grows less")
