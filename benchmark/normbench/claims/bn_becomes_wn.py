"""Where the input is white, batch norm is weight norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchNormBecomesWeightNorm(Computed):
    name = "bn-becomes-wn"
    summary = "If the covariance of the input is the identity, batch norm is weight norm with g = gamma"
    source = "sun"
    theme = "algebra"
    place = "Section 2.4, behind equation 14"
    test = "exact"
    scope = "12 inputs, 8 units, a batch of 64, gamma 1.7, float64, eps 1e-12"
    note = (
        "The effective weights are equal; the outputs only where the input has mean 0, which batch norm takes out "
        "and weight norm does not."
    )

    def about(self) -> Any:
        """Means of the inputs, whose covariance is the identity; and a factor on the covariance."""
        return (0.0, 1.0), 1.0

    def turned(self) -> Any:
        return (0.5, 1.0), 4.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, effective, layer, made, normal

        means, factor = about
        white = layer("bw-zca[group=12]", 12)(normal(seed, 64, 12)) * factor**0.5
        w = normal(seed, 8, 12, stream=1)
        for mean in means:
            x = white + mean
            normalized = x @ (1.7 * effective("wn", w)).mT
            yield vanishes(f"outputs at mean {mean:g}", apart(normalized, made("bn", x @ w.mT, gamma=1.7)))
