"""Lemma 3: each row of a weight is orthogonal to its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class RowOrthogonality(Computed):
    name = "row-orthogonality"
    summary = "Each row of the weight before BN, LN, IN, GN, or wrapped by WN, CWN, WS, is orthogonal to its gradient"
    source = "sun"
    theme = "dynamics"
    place = "Lemma 3, equation 15; section 2.5"
    test = "exact"
    scope = (
        "a 3x3 convolution of 32 channels before each method, 32 examples of 4x4, random projections of the output, "
        "float64, eps 1e-12"
    )
    note = (
        "It holds row by row for BN, IN, WN, CWN and WS. LN and GN see the rows of a group together: there only the "
        "group as a whole is orthogonal."
    )

    def about(self) -> Any:
        """The methods."""
        return ("bn", "ln", "in", "gn[groups=4]", "wn", "cwn", "ws")

    def turned(self) -> Any:
        """Methods without scale invariance."""
        return ("none", "dyt", "derf", "rms[eps=0.5]")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import Bench, orthogonality, tiny
        from normbench.norms import registry

        for method in about:
            made = registry.parse(method)
            bench = Bench(made if "eps=" in method else tiny(made))
            cosine = orthogonality(bench.run, bench.raw, seed)
            yield vanishes(f"largest |cos| of a row, {method}", cosine)
