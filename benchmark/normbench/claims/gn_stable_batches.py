"""Group norm over batch sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class StableBatches(Computed):
    name = "gn-stable-batches"
    summary = "The accuracy of group norm is stable over a wide range of batch sizes"
    source = "yuan"
    theme = "batch"
    place = "Section 5"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, batches of 4 and 32 with 3,200 examples in all, best of 3 rates each, 96 seeds, on the "
        "digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """The method."""
        return "gn[groups=4]"

    def turned(self) -> Any:
        return "bn"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        small, large = (
            best(Training(batch=b, steps=3200 // b, rates=RATES, seeds=96, first=1000 * seed), about)[0]
            for b in (4, 32)
        )
        yield mean(
            f"accuracy at batches of 4 less that at 32, {about}, points",
            100 * (small - large),
            at_least=-3.0,
            at_most=3.0,
        )
