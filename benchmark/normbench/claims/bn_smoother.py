"""The landscape of the loss along the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class Smoother(Computed):
    name = "bn-smoother"
    summary = "Batch norm makes the loss smoother: the gradient changes less along a step"
    source = "cai"
    theme = "training"
    place = "Section 3.4"
    test = "trained"
    scope = (
        "MLPs of 4x32 units, before training and after 50 steps at a rate of 0.1, steps of 0.05 to 0.4 times the "
        "gradient, 8 seeds, on the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import numpy as np

        from normbench.claims._chance import mean
        from normbench.claims._probes import smoothness
        from normbench.claims._small import Training

        for steps in (1, 50):
            first, second = (smoothness(Training(norm=m, depth=4, steps=steps, first=100 * seed)) for m in about)
            yield mean(
                f"octaves of beta-smoothness after {steps} steps, {about[0]} over {about[1]}",
                np.log2(first / second),
                at_most=0.0,
            )
