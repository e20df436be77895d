"""What dropout adds to batch norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class LessDropout(Computed):
    name = "bn-less-dropout"
    summary = "Batch norm reduces the need for dropout"
    source = "yuan"
    theme = "training"
    place = "Sections 1 and 2"
    test = "trained"
    scope = (
        "MLPs of 2x64 units, 300 training images, 200 steps, dropout 0.2, a rate of 0.3, 64 seeds, on the "
        "digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from dataclasses import replace

        from normbench.claims._chance import mean
        from normbench.claims._compared import best
        from normbench.claims._small import Training

        of = Training(depth=2, width=64, images=300, steps=200, rates=(0.3,), seeds=64, first=1000 * seed)
        plain, dropped = best(of, *about), best(replace(of, dropout=0.2), *about)
        gains = [100 * (b - a) for a, b in zip(plain, dropped, strict=True)]
        yield mean(
            f"what dropout adds to {about[1]} less what it adds to {about[0]}, points",
            gains[1] - gains[0],
            at_least=0.0,
        )
