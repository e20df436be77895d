"""Figure 2: gamma and beta against the statistics of the norm's input over training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class GammaApproachesSigma(Computed):
    name = "gamma-approaches-sigma"
    summary = "In training |gamma^2 - sigma^2| and |beta - mu| come to rest at small values"
    source = "sun"
    theme = "units"
    place = "Section 3.1, Figure 2"
    test = "trained"
    scope = (
        "first norm of MLPs of 3x32 units with batch norm, at 400 of 400 steps against the start and against step "
        "300, rate 0.3, median over units, 8 seeds, on the digits (8x8), plain SGD"
    )
    study = "paper"
    note = (
        "In print: one of 64 channels of one network. Small is read as no larger than before training, at rest as a "
        "change of a tenth at most over the last quarter."
    )

    def about(self) -> Any:
        """Steps: the start, before the end, and the end."""
        return (1, 300, 400)

    def turned(self) -> Any:
        """Training backwards: from its end to its first steps."""
        return (400, 1, 2)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._affine import distances
        from normbench.claims._chance import mean
        from normbench.claims._small import Training

        start, before, end = (distances(Training(norm="bn", rates=(0.3,), steps=k, first=100 * seed)) for k in about)
        for i, what in enumerate(("|gamma^2 - sigma^2|", "|beta - mu|")):
            yield mean(f"{what} at the end over that at the start", end[i] / start[i], at_most=1.0)
            yield mean(f"change of {what} over the last quarter, as a share", abs(end[i] / before[i] - 1), at_most=0.1)
