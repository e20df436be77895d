"""What batch norm uses when it is tested."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class RunningStatistics(Computed):
    name = "running-statistics"
    summary = "Moving averages of the batches' means and variances are what batch norm uses in testing"
    source = "yuan"
    theme = "batch"
    place = "Section 2, code"
    test = "exact"
    scope = "8 units, 50 batches of 32, momentum 0.1 for the new batch, float64"
    note = (
        "As the code is printed, the momentum weights the old value: 0.9 there is 0.1 in torch, where it weights the "
        "new one; the variance is stored unbiased."
    )

    def about(self) -> Any:
        """Weight of the old value in the printed code."""
        return 0.9

    def turned(self) -> Any:
        return 0.1

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, layer, normal

        unit = layer("bn[momentum=0.1]", 8, eps=1e-5)
        mean, variance = normal(seed, 8) * 0, normal(seed, 8) * 0 + 1
        for i in range(50):
            x = normal(seed, 32, 8, stream=i) * 2 + 1
            unit(x)
            new = x.mean(0), x.var(0)
            mean, variance = (about * o + (1 - about) * n for o, n in zip((mean, variance), new, strict=True))
        x = normal(seed, 5, 8, stream=99)
        yield vanishes(
            "testing against the moving averages", apart(unit.eval()(x), (x - mean) / (variance + 1e-5).sqrt())
        )
