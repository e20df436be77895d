"""Lemma 1: scaling and moving invariance of what is standardized, which the print has for all real factors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class StandardizedInvariance(Computed):
    name = "standardized-invariance"
    summary = "N(a v + t e) = N(v) for all real a and t"
    source = "sun"
    theme = "algebra"
    place = "Lemma 1 (4)"
    test = "exact"
    scope = "a vector of 50 values, float64"
    note = "It holds for positive a. For negative a the sign turns over, and for 0 nothing is defined."

    def about(self) -> Any:
        """Factors a."""
        return 3.0, 0.01, -2.0

    def turned(self) -> Any:
        return -1.0, -0.3, -2.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        v = normal(seed, 50, 1)
        for a in about:
            yield vanishes(f"difference at a = {a:g}, t = 5", apart(made("bn", a * v + 5), made("bn", v)))
