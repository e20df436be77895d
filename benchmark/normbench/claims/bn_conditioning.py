"""How evenly inputs and gradients of a layer spread over directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class BatchNormConditioning(Computed):
    name = "bn-conditioning"
    summary = "With batch norm the input of a layer and the gradient to its output are better conditioned"
    source = "huang"
    theme = "training"
    place = "Slide: the layer-wise spectrum"
    test = "trained"
    scope = (
        "last hidden layer of MLPs of 4x32 units, after 1 and 50 steps at a rate of 0.1, 8 seeds, on the digits "
        "(8x8), plain SGD, paired by seed"
    )
    note = "Kappa at p is the largest over the p d-th eigenvalue of the second moment."

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._probes import conditioning
        from normbench.claims._small import Training

        for steps in (1, 50):
            runs = [Training(norm=m, depth=4, steps=steps, first=100 * seed) for m in about]
            for share in (0.5,):
                first, second = (conditioning(of, share) for of in runs)
                for what, a, b in zip(("input", "output gradient"), first, second, strict=True):
                    yield mean(
                        f"octaves of kappa at {share:g}, {what}, {steps} steps, {about[0]} over {about[1]}",
                        a - b,
                        at_most=0.0,
                    )
