"""What small batches cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class SmallBatches(Computed):
    name = "bn-small-batches"
    summary = "The error of batch norm rises fast as the batch gets smaller, and that of group norm does not"
    source = "yuan"
    theme = "batch"
    place = "Section 5"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, batches of 2 and 32 with 1,600 examples in all, best of 3 rates each, 8 seeds, on the "
        "digits (8x8), plain SGD, paired by seed"
    )
    study = "batch-width"

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "gn[groups=4]")

    def turned(self) -> Any:
        return ("gn[groups=4]", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import RATES, best
        from normbench.claims._small import Training

        runs = [Training(batch=b, steps=1600 // b, rates=RATES, first=100 * seed) for b in (2, 32)]
        small, large = (best(of, *about) for of in runs)
        rises = [100 * (b - a) for a, b in zip(small, large, strict=True)]
        yield mean(f"rise of the error from batches of 32 to 2, {about[0]}, points", rises[0], at_least=2.0)
        yield mean(f"the same less that of {about[1]}, points", rises[0] - rises[1], at_least=2.0)
