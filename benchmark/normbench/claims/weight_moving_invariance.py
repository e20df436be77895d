"""Which methods do not see that a number is added to all values of a row of the weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class WeightMovingInvariance(Computed):
    name = "weight-moving-invariance"
    summary = (
        "Centred weight normalization and weight standardization do not see a rescaled row, or a number added to it"
    )
    source = "sun"
    theme = "algebra"
    place = "Section 2.4, with Lemma 1 (4)"
    test = "exact"
    scope = "8 rows of 27 values, each with a factor and a number of its own, float64, eps 1e-12"

    def about(self) -> Any:
        """The methods."""
        return "cwn", "ws"

    def turned(self) -> Any:
        """Weight normalization does not centre; neither is a spectral norm moved away."""
        return "wn", "sn"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, effective, normal

        w = normal(seed, 8, 27)
        factors, moves = normal(seed, 8, 1, stream=1).exp(), normal(seed, 8, 1, stream=2)
        for method in about:
            yield vanishes(
                f"effective weight of {method}", apart(effective(method, factors * w + moves), effective(method, w))
            )
