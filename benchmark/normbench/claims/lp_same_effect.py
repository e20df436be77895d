"""Other norms than the deviation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class LpSameEffect(Computed):
    name = "lp-same-effect"
    summary = "Normalizing by another Lp norm trains about as well as batch norm"
    source = "cai"
    theme = "training"
    place = "Section 3.5"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, 120 steps, L1 and Linf, best of 3 rates each, 8 seeds; as well: within 1.5 points, on "
        "the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The methods."""
        return ("lp-bn[p=1]", "lp-bn[p=inf]")

    def turned(self) -> Any:
        return ("ws", "bw-zca[group=32]")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        of = Training(rates=RATES, first=100 * seed)
        (reference,) = best(of, "bn")
        for method in about:
            (other,) = best(of, method)
            yield mean(
                f"accuracy of {method} less that of bn, points", 100 * (other - reference), at_least=-1.5, at_most=1.5
            )
