"""Weight norm takes length and direction apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class WeightNormDecouples(Computed):
    name = "wn-decouples"
    summary = (
        "Weight normalization makes the length of a weight a parameter g of its own, and v nothing but its direction"
    )
    source = "yuan"
    theme = "algebra"
    place = "Section 6, equation 4"
    test = "exact"
    scope = "8 rows of 27 values, v of any length, float64"

    def about(self) -> Any:
        """The method."""
        return "wn"

    def turned(self) -> Any:
        """Weight standardization sets the length to sqrt(n), and turns the direction."""
        return "ws"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, effective, normal

        v = normal(seed, 8, 27) + 0.3
        w = effective(about, v)
        yield vanishes("length of a row against g = 1", apart(w.norm(dim=1), w.norm(dim=1) * 0 + 1))
        direction = v / v.norm(dim=1, keepdim=True)
        yield vanishes("direction of a row against that of v", apart(w / w.norm(dim=1, keepdim=True), direction))
