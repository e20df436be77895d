"""Batch norm and batch whitening with small batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class SmallBatchWhitening(Computed):
    name = "small-batch-whitening"
    summary = "Batch norm and batch whitening fail with small batches, whitening sooner"
    source = "huang"
    theme = "batch"
    place = "Slide: the small-batch problem of BN/BW"
    test = "trained"
    scope = (
        "MLPs of 3x16 units, 120 steps at a rate of 0.3, batches of 64 and 4, whitening of all 16 units, 8 seeds, on "
        "the digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """Batch sizes: one that works, then one that does not."""
        return (64, 4)

    def turned(self) -> Any:
        return (4, 64)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import best
        from normbench.claims._small import Training

        falls = {}
        for method in ("bn", "bw-zca[group=16]"):
            runs = [Training(width=16, batch=b, rates=(0.3,), first=100 * seed) for b in about]
            (first,), (second,) = (best(of, method) for of in runs)
            falls[method] = 100 * (first - second)
            yield mean(f"accuracy at {about[0]} less that at {about[1]}, {method}, points", falls[method], at_least=1.0)
        yield mean(
            "fall of whitening less that of batch norm, points", falls["bw-zca[group=16]"] - falls["bn"], at_least=1.0
        )
