"""The constraints of a data set that goes through in batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class ConstraintNumbersDataset(Computed):
    name = "constraint-numbers-dataset"
    summary = (
        "Over N examples in batches of m the constraint numbers are 2Nd/m of BN, Nd (d + 3) / 2m of whitening, 2gN "
        "of GN, Ng (g + 3) / 2 of GW"
    )
    source = "huang"
    theme = "whitening"
    place = "Slide: constraint number, second row of the table"
    test = "exact"
    scope = "d = 4, batches of m = 3 and 6 of N = 6 examples of 3x3, g = 2 groups, float64, eps 1e-12"

    def about(self) -> Any:
        """Formulas by method."""
        return {
            "bn": "2*N*d/m",
            "bw-zca[group=4]": "N*d*(d+3)/2/m",
            "gn[groups=2]": "2*g*N",
            "gw[groups=2]": "N*g*(g+3)/2",
        }

    def turned(self) -> Any:
        """Methods of the batch counted by example, and the other way round."""
        return {
            "bn": "2*N*d",
            "bw-zca[group=4]": "N*d*(d+3)/2",
            "gn[groups=2]": "2*g*N/m",
            "gw[groups=2]": "N*g*(g+3)/2/m",
        }

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import layer, normal
        from normbench.norms.check import evaluate

        d, count, side = 4, 6, 3
        x = normal(seed, count, d, side, side)
        for method, formula in about.items():
            for m in (3, 6):
                unit = layer(method, d)
                jacobian = torch.autograd.functional.jacobian(
                    lambda z, unit=unit, m=m: torch.cat([unit(part) for part in z.split(m)]), x
                ).reshape(x.numel(), -1)  # type: ignore[no-untyped-call]
                values = torch.linalg.svdvals(jacobian)
                lacking = int((values < 1e-9 * values[0]).sum())
                expected = evaluate(formula, {"d": d, "N": count, "m": m, "g": 2})
                yield exact(f"rank lacking, {method}, m = {m}", lacking, equal=expected)
