"""Read off the study of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims._paper import findings
from normbench.claims.base import Part, Trained
from normbench.studies import Evidence


class DecayBim(Trained):
    name = "decay-bim"
    summary = "Weight decay raises accuracy under BIM"
    source = "sun"
    theme = "robustness"
    place = "Section 3.2, Tables 1 and 2"
    study = "paper"
    note = "In print: in Table 2 for all four methods, in Table 1 for BN, GN and LN."

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        return findings(found, "weight decay raises accuracy under BIM")
