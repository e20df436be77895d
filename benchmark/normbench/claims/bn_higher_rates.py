"""How high a learning rate batch norm stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class HigherRates(Computed):
    name = "bn-higher-rates"
    summary = "Batch norm allows much higher learning rates without divergence"
    source = "yuan"
    theme = "training"
    place = "Sections 1 and 2"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, 120 steps, 5 rates from 0.1 to 25.6, 12 seeds, on the digits (8x8), plain SGD, paired "
        "by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import highest_rate
        from normbench.claims._small import Training

        of = Training(rates=tuple(0.1 * 4**i for i in range(5)), seeds=12, first=100 * seed)
        first, second = (highest_rate(of, method, 0.85) for method in about)
        yield mean(
            f"octaves that the highest rate with 85 % right is above, {about[0]} over {about[1]}",
            first - second,
            at_least=1.0,
        )
