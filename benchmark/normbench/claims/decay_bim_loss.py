"""Read off the study of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims._paper import findings
from normbench.claims.base import Part, Trained
from normbench.studies import Evidence


class DecayBimLoss(Trained):
    name = "decay-bim-loss"
    summary = "Weight decay lowers what BIM costs (Acc-Diff2)"
    source = "sun"
    theme = "robustness"
    place = "Section 2.5, Tables 1 and 2"
    study = "paper"
    note = "In print: in Table 2 for all four methods, in Table 1 for BN and GN."

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        return findings(found, "weight decay lowers the loss by BIM")
