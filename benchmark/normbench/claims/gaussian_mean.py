"""The Gaussian model of a batch's mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class GaussianMean(Computed):
    name = "gaussian-mean"
    summary = "In a batch of m the mean deviates from the population's by N(0, 1/m) deviations"
    source = "huang"
    theme = "batch"
    place = "Slide: theoretical model"
    test = "simulated"
    scope = "20,000 batches of m = 16 of normally distributed values, x in its own batch and not, float64"
    note = (
        "It holds where x is not one of the m. In its own batch, as in training, x moves the mean towards itself by "
        "1/m of its distance, and m - 1 values are left to chance."
    )

    def about(self) -> Any:
        """Variance of the deviation, times m."""
        return 1.0

    def turned(self) -> Any:
        return 2.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._layers import normal

        m = 16
        drawn = normal(seed, 20_000, m)
        for what, batches in (("x not in the batch", drawn), ("x = 2 in the batch", _with(drawn, 2.0))):
            off = batches.mean(1) * (m / about) ** 0.5
            yield mean(f"mean square of the deviation times m, {what}", off.square(), at_least=0.9, at_most=1.1)


def _with(drawn: Any, x: float) -> Any:
    """The batches with x in the place of their first value."""
    batches = drawn.clone()
    batches[:, 0] = x
    return batches
