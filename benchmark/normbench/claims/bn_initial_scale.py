"""The scale of the initial weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class InitialScale(Computed):
    name = "bn-initial-scale"
    summary = "Batch norm reduces the dependence of training on the scale of the parameters and their initial values"
    source = "yuan"
    theme = "training"
    place = "Sections 1 and 2"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, initial weights times 0.1, 1 and 10, 120 steps, best of 3 rates each, 8 seeds, on the "
        "digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, reached
        from normbench.claims._small import Training

        first, second = reached(Training(rates=RATES, first=100 * seed), about, (0.1, 1.0, 10.0))
        what = f"accuracy at the worst of the scales, {about[0]} less {about[1]}, points"
        yield mean(what, 100 * (first - second), at_least=1.0)
