"""Lemma 1: what is standardized lies on a sphere, orthogonal to the direction of all ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class StandardizedSphere(Computed):
    name = "standardized-sphere"
    summary = "A standardized vector of n values has length sqrt(n) and is orthogonal to the vector of ones"
    source = "sun"
    theme = "algebra"
    place = "Lemma 1 (4), equation 2"
    test = "exact"
    scope = "100 vectors of 7 values, float64"

    def about(self) -> Any:
        """The method that standardizes a unit over the batch."""
        return "bn"

    def turned(self) -> Any:
        """Divides by the deviation without taking out the mean."""
        return "evonorm-b0"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import made, normal

        standardized = made(about, normal(seed, 7, 100) * 3 + 2)
        yield vanishes("length over sqrt(n), less 1", float((standardized.norm(dim=0) / 7**0.5 - 1).abs().max()))
        yield vanishes("mean of the values", float(standardized.mean(0).abs().max()))
