"""Smaller batches disturb more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class DisturbanceBatch(Computed):
    name = "snd-batch"
    summary = "The disturbance of batch norm and of whitening grows as the batch gets smaller"
    source = "huang"
    theme = "whitening"
    place = "Slide: investigation into the stochasticity"
    test = "simulated"
    scope = (
        "d = 16, batches of 32, 64 and 256, normally distributed inputs of unit covariance, 12 batches of examples "
        "and 6 examples each, 6 repetitions, float64"
    )
    study = "stochasticity"

    def about(self) -> Any:
        """Batch sizes, most disturbing first."""
        return (32, 64, 256)

    def turned(self) -> Any:
        return (256, 64, 32)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from itertools import pairwise

        from normbench.claims._chance import mean
        from normbench.claims._disturbed import snd

        for method in ("bn", "bw-zca[group=16]", "bw-cd[group=16]"):
            for small, large in pairwise(about):
                ratio = snd(method, 16, small, seed) / snd(method, 16, large, seed)
                yield mean(f"SND at {small} over that at {large}, {method}", ratio, at_least=1.0)
