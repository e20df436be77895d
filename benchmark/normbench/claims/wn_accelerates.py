"""How far a short training gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class WeightNormAccelerates(Computed):
    name = "wn-accelerates"
    summary = "Weight normalization speeds up the convergence of optimization"
    source = "yuan"
    theme = "training"
    place = "Section 6"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, 60 steps, best of 3 rates each, 192 seeds, on the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("wn", "none")

    def turned(self) -> Any:
        return ("none", "wn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        for depth in (3,):
            first, second = best(Training(depth=depth, steps=60, rates=RATES, seeds=192, first=1000 * seed), *about)
            what = f"accuracy after 60 steps, depth {depth}, {about[0]} less {about[1]}, points"
            yield mean(what, 100 * (first - second), at_least=0.0)
