"""Noise behind batch norm brings covariate shift back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class NoiseBehind(Computed):
    name = "noise-behind-bn"
    summary = "Random noise of non-zero mean behind batch norm does not undo what it does for training"
    source = "cai"
    theme = "training"
    place = "Section 3.2"
    test = "trained"
    scope = (
        "MLPs of 6x32 units, 120 steps, noise of mean 0.3 whose mean and scale vary by 0.3 at every step and unit, "
        "best of 3 rates each, 256 seeds, on the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method with noise, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from dataclasses import replace

        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        of = Training(depth=6, rates=RATES, seeds=256, first=1000 * seed)
        (plain,) = best(of, about[1])
        (noisy,) = best(replace(of, noise=0.3), about[0])
        yield mean(
            f"accuracy of {about[0]} with noise less {about[1]} without, points", 100 * (noisy - plain), at_least=0.0
        )
