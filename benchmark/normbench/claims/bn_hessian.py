"""The largest eigenvalue of the Hessian."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class BatchNormHessian(Computed):
    name = "bn-hessian"
    summary = "Batch norm makes the largest eigenvalues of the Hessian smaller"
    source = "huang"
    theme = "training"
    place = "Slide: improved conditioning in optimization, full Hessian"
    test = "trained"
    scope = (
        "MLPs of 4x32 units, after 1 and 50 steps at a rate of 0.1, 8 seeds, on the digits (8x8), plain SGD, paired "
        "by seed"
    )
    note = "The slide shows a VGG network on images."

    def about(self) -> Any:
        """The method, and what it is compared with."""
        return ("bn", "none")

    def turned(self) -> Any:
        return ("none", "bn")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import numpy as np

        from normbench.claims._chance import mean
        from normbench.claims._probes import largest_curvature
        from normbench.claims._small import Training

        for steps in (1, 50):
            runs = [Training(norm=m, depth=4, steps=steps, first=100 * seed) for m in about]
            first, second = (largest_curvature(of) for of in runs)
            yield mean(
                f"octaves of the largest eigenvalue after {steps} steps, {about[0]} over {about[1]}",
                np.log2(first / second),
                at_most=0.0,
            )
