"""What batch norm does not see: scale of weights and inputs, and a bias."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchNormTwoSided(Computed):
    name = "bn-two-sided"
    summary = "Batch norm does not change when weights, inputs or a bias before it are rescaled or added"
    source = "sun"
    theme = "algebra"
    place = "Section 2.2, behind equation 12"
    test = "exact"
    scope = "12 inputs, 8 units, a batch of 32, each row of the weight by a factor of its own, float64, eps 1e-12"

    def about(self) -> Any:
        """The method."""
        return "bn"

    def turned(self) -> Any:
        return "none"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        x, w = normal(seed, 32, 12), normal(seed, 8, 12, stream=1)
        factors = normal(seed, 8, 1, stream=2).exp()
        y = made(about, x @ w.mT)
        yield vanishes("rows of W rescaled", apart(made(about, x @ (factors * w).mT), y))
        yield vanishes("X times 7", apart(made(about, 7 * x @ w.mT), y))
        yield vanishes("a bias added", apart(made(about, x @ w.mT + factors.mT), y))
