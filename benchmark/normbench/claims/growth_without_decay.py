"""Read off the study of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims._paper import findings
from normbench.claims.base import Part, Trained
from normbench.studies import Evidence


class GrowthWithoutDecay(Trained):
    name = "growth-without-decay"
    summary = "The norm of the weights grows in training under all scale-invariant methods"
    source = "sun"
    theme = "dynamics"
    place = "Section 3.2, Figure 3"
    study = "paper"
    note = "In print: a curve of one network for each method."

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        return findings(found, "without weight decay the norm of the weights grows")
