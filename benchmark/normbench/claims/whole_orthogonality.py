"""Lemma 2: a weight that its loss does not see the scale of is orthogonal to its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class WholeOrthogonality(Computed):
    name = "whole-orthogonality"
    summary = "If f does not change with the scale of x, then x is orthogonal to the gradient of f"
    source = "sun"
    theme = "dynamics"
    place = "Lemma 2, equation 16"
    test = "exact"
    scope = (
        "the whole weight of a 3x3 convolution of 32 channels before each method, random projections, float64, eps "
        "1e-12"
    )
    note = "Positive factors are enough: the lemma asks for all real ones, under which batch norm changes sign."

    def about(self) -> Any:
        """The methods."""
        return ("bn", "ln", "in", "gn[groups=4]", "frn", "wn", "cwn", "ws", "sn", "bw-zca", "gw")

    def turned(self) -> Any:
        """Methods without scale invariance."""
        return ("none", "dyt", "derf")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import Bench, orthogonality, tiny
        from normbench.norms import registry

        for method in about:
            bench = Bench(tiny(registry.parse(method)))
            cosine = orthogonality(bench.run, bench.raw, seed, rows=False)
            yield vanishes(f"|cos| of the weight, {method}", cosine)
