"""Which whitening makes outputs depend most on the rest of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class DisturbanceOrder(Computed):
    name = "snd-order"
    summary = "The stochastic normalization disturbance falls in the order PCA, CD, ZCA, BN"
    source = "huang"
    theme = "whitening"
    place = "Slide: investigation into the stochasticity"
    test = "simulated"
    scope = (
        "d = 16, batches of 64, normally distributed inputs of unit covariance, 12 batches of examples and 6 "
        "examples each, 6 repetitions, float64"
    )
    study = "stochasticity"

    def about(self) -> Any:
        """Methods, most disturbing first."""
        return ("bw-pca[group=16]", "bw-cd[group=16]", "bw-zca[group=16]", "bn")

    def turned(self) -> Any:
        return ("bn", "bw-zca[group=16]", "bw-cd[group=16]", "bw-pca[group=16]")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from itertools import pairwise

        from normbench.claims._chance import mean
        from normbench.claims._disturbed import snd

        values = {method: snd(method, 16, 64, seed) for method in about}
        for a, b in pairwise(about):
            yield mean(f"SND of {a} over that of {b}", values[a] / values[b], at_least=1.0)
