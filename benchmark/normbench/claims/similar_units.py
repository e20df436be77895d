"""Do units with the same gamma and beta compute the same?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class SimilarUnits(Computed):
    name = "similar-units"
    summary = "Units with similar gamma and beta have similar outputs and thus similar functions"
    source = "sun"
    theme = "units"
    place = "Section 2.2, secondly"
    test = "simulated"
    scope = "200 pairs of units with the same gamma and beta, random weights of 64 inputs, a batch of 256, float64"
    note = "Gamma and beta say how an output spreads, not which direction it follows."

    def about(self) -> Any:
        """Cosine between the weights of a pair."""
        return 0.0

    def turned(self) -> Any:
        """Units with nearly the same weights."""
        return 0.999

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._chance import mean
        from normbench.claims._layers import made, normal

        x, w, v = normal(seed, 256, 64), normal(seed, 200, 64, stream=1), normal(seed, 200, 64, stream=2)
        other = about * w + (1 - about**2) ** 0.5 * v
        a, b = made("bn", x @ w.mT, gamma=1.3, beta=0.2), made("bn", x @ other.mT, gamma=1.3, beta=0.2)
        correlations = torch.corrcoef(torch.cat([a, b], 1).mT)[:200, 200:].diagonal()
        yield mean("correlation of the outputs of two such units", correlations, at_least=0.5)
