"""How far a short training gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class BatchNormAccelerates(Computed):
    name = "bn-accelerates"
    summary = "Batch norm reaches the same loss in less time"
    source = "cai"
    theme = "training"
    place = "Section 1"
    test = "trained"
    scope = (
        "MLPs of 3x32 units and of 6x32 units, 60 steps, best of 3 rates each, 8 seeds, on the digits (8x8), plain "
        "SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        for depth in (3, 6):
            first, second = best(Training(depth=depth, steps=60, rates=RATES, first=100 * seed), *about)
            what = f"accuracy after 60 steps, depth {depth}, {about[0]} less {about[1]}, points"
            yield mean(what, 100 * (first - second), at_least=0.0)
