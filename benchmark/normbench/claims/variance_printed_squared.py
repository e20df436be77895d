"""The formulas of batch and instance norm as the summary prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class VariancePrintedSquared(Computed):
    name = "variance-printed-squared"
    summary = "With sigma_i the mean square deviation, (x - mu) / sqrt(sigma_i^2 + eps) normalizes"
    source = "yuan"
    theme = "algebra"
    place = "Equations 2 and 3"
    test = "exact"
    scope = "8 units of deviation 3, a batch of 64, float64"
    note = (
        "What is printed as sigma_i is the variance already, and is squared once more in the denominator. With "
        "sigma_i in place of its square it normalizes."
    )

    def about(self) -> Any:
        """The power of sigma_i in the denominator."""
        return 2

    def turned(self) -> Any:
        return 1

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import normal

        x = 3 * normal(seed, 64, 8)
        centred = x - x.mean(0)
        y = centred / (centred.square().mean(0) ** about + 1e-12).sqrt()
        yield exact(
            "largest deviation of an output", float(y.std(0, correction=0).max()), at_least=1 - 1e-6, at_most=1 + 1e-6
        )
