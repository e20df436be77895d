"""Sigmoids behind batch norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class Saturating(Computed):
    name = "bn-saturating"
    summary = "Batch norm makes saturating nonlinearities usable"
    source = "yuan"
    theme = "training"
    place = "Sections 1 and 2"
    test = "trained"
    scope = (
        "MLPs of 4x32 units with sigmoids, 120 steps, best of 3 rates each, 8 seeds, on the digits (8x8), plain "
        "SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import best
        from normbench.claims._small import Training

        of = Training(depth=4, activation="sigmoid", rates=(0.3, 1.0, 3.0), first=100 * seed)
        first, second = best(of, *about)
        yield mean(f"accuracy of {about[0]} less that of {about[1]}, points", 100 * (first - second), at_least=1.0)
