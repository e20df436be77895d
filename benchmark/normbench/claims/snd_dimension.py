"""More dimensions that are whitened together disturb more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class DisturbanceDimension(Computed):
    name = "snd-dimension"
    summary = "The disturbance of whitening grows with the number of dimensions that are whitened together"
    source = "huang"
    theme = "whitening"
    place = "Slides: stochasticity and dimension; controlling it by groups"
    test = "simulated"
    scope = (
        "16 channels whitened in groups of 2, 4, 8 and 16, batches of 64, normally distributed inputs of unit "
        "covariance, 12 batches of examples and 6 examples each, 6 repetitions, float64"
    )
    note = "For PCA the disturbance hardly grows beyond groups of 8, where it is near its maximum already."
    study = "stochasticity"

    def about(self) -> Any:
        """Group sizes, most disturbing first."""
        return (16, 8, 4, 2)

    def turned(self) -> Any:
        return (2, 4, 8, 16)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from itertools import pairwise

        from normbench.claims._chance import mean
        from normbench.claims._disturbed import snd

        for kind in ("bw-pca", "bw-cd", "bw-zca"):
            for large, small in pairwise(about):
                ratio = snd(f"{kind}[group={large}]", 16, 64, seed) / snd(f"{kind}[group={small}]", 16, 64, seed)
                yield mean(f"SND of groups of {large} over {small}, {kind}", ratio, at_least=1.0)
