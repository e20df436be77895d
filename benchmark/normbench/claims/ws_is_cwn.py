"""Equation 15: weight standardization is centred weight normalization, longer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class StandardizationIsCentred(Computed):
    name = "ws-is-cwn"
    summary = "Weight standardization is sqrt(n) times centred weight normalization, n the fan-in"
    source = "sun"
    theme = "algebra"
    place = "Equation 15 (second of that number)"
    test = "exact"
    scope = "8 rows of 27 values, float64, eps 1e-12, gain 1"

    def about(self) -> Any:
        """The power of n."""
        return 0.5

    def turned(self) -> Any:
        return 1.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, effective, normal

        w = normal(seed, 8, 27) + 0.3
        yield vanishes("WS(w) against sqrt(n) CWN(w)", apart(27**about * effective("cwn", w), effective("ws", w)))
        radii = effective("ws", w).norm(dim=1)
        yield vanishes("length of a row against sqrt(n)", apart(radii, radii * 0 + 27**about))
