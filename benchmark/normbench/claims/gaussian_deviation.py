"""The Gaussian model of a batch's deviation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class GaussianDeviation(Computed):
    name = "gaussian-deviation"
    summary = (
        "In a batch of m the population's deviation over the batch's is sqrt(m) over a chi of m - 1 degrees of freedom"
    )
    source = "huang"
    theme = "batch"
    place = "Slide: theoretical model"
    test = "simulated"
    scope = "20,000 batches of m = 16 of normally distributed values, x in its own batch and not, float64"
    note = (
        "It holds where x is not one of the m. In its own batch an x two deviations out widens the batch, so that "
        "the ratio is smaller than the model's."
    )

    def about(self) -> Any:
        """Degrees of freedom less than m."""
        return 1

    def turned(self) -> Any:
        return 4

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import numpy as np
        from scipy import stats

        from normbench.claims._chance import mean
        from normbench.claims._layers import normal

        m = 16
        model = stats.chi(m - about)
        drawn = normal(seed, 20_000, m)
        for what, batches in (("x not in the batch", drawn), ("x = 2 in the batch", _with(drawn, 2.0))):
            ratio = 1 / batches.std(1, correction=0).numpy()
            for p in (0.1, 0.5, 0.9):
                quantile = m**0.5 / model.ppf(1 - p)
                yield mean(
                    f"share below the model's {p:g} quantile, {what}",
                    np.where(ratio < quantile, 1.0, 0.0),
                    at_least=p - 0.03,
                    at_most=p + 0.03,
                )


def _with(drawn: Any, x: float) -> Any:
    """The batches with x in the place of their first value."""
    batches = drawn.clone()
    batches[:, 0] = x
    return batches
