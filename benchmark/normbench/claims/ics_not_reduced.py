"""Internal covariate shift as the change of a layer's gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class ShiftNotReduced(Computed):
    name = "ics-not-reduced"
    summary = (
        "Batch norm does not reduce internal covariate shift as the change of a layer's gradient by the updates "
        "before it"
    )
    source = "cai"
    theme = "training"
    place = "Section 3.3, definition 3.1"
    test = "trained"
    scope = (
        "MLPs of 4x32 units after 50 steps at a rate of 0.1, update of 0.1, share of the gradient's length, 24 "
        "seeds, on the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import numpy as np

        from normbench.claims._chance import mean
        from normbench.claims._probes import shift
        from normbench.claims._small import Training

        first, second = (shift(Training(norm=m, depth=4, steps=50, first=100 * seed), 0.1) for m in about)
        yield mean(f"octaves of shift, {about[0]} over {about[1]}", np.log2(first / second), at_least=0.0)
