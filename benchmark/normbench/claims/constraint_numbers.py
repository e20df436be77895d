"""How many equations a normalized tensor obeys: the rank that the layer's Jacobian lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class ConstraintNumbers(Computed):
    name = "constraint-numbers"
    summary = (
        "The constraint numbers are 2d of BN, d (d + 3) / 2 of batch whitening, 2gm of GN, mg (g + 3) / 2 of group "
        "whitening"
    )
    source = "huang"
    theme = "whitening"
    place = "Slide: constraint number, first row of the table"
    test = "exact"
    scope = "d = 4 channels, m = 3 examples of 3x3 (4 values a group), g = 2 groups, float64, eps 1e-12"

    def about(self) -> Any:
        """Formulas by method; n is the table's m."""
        return {"bn": "2*d", "bw-zca[group=4]": "d*(d+3)/2", "gn[groups=2]": "2*g*n", "gw[groups=2]": "n*g*(g+3)/2"}

    def turned(self) -> Any:
        """Formulas of other methods."""
        return {"bn": "d", "bw-zca[group=4]": "2*d", "gn[groups=2]": "g*n", "gw[groups=2]": "2*g*n"}

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import layer, normal
        from normbench.norms.check import evaluate

        d, n, side = 4, 3, 3
        x = normal(seed, n, d, side, side)
        for method, formula in about.items():
            jacobian = torch.autograd.functional.jacobian(layer(method, d), x).reshape(x.numel(), -1)  # type: ignore[no-untyped-call]
            values = torch.linalg.svdvals(jacobian)
            lacking = int((values < 1e-9 * values[0]).sum())
            yield exact(
                f"rank lacking, {method}", lacking, equal=evaluate(formula, {"d": d, "n": n, "g": 2, "p": side**2})
            )
