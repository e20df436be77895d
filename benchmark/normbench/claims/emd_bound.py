"""Bounds of internal covariate shift by the earth mover's distance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class EmdBound(Computed):
    name = "emd-bound"
    summary = "Batch norm bounds how far an update can move the distribution of a unit, from below and above"
    source = "cai"
    theme = "units"
    place = "Section 3.3, after Huang and Yu 2020"
    test = "exact"
    scope = (
        "200 pairs of weights of up to 100 times the size, 64 inputs, a batch of 128, gamma 1.7, beta 0 and 0.6, "
        "float64, eps 1e-12"
    )
    note = (
        "Outputs of mean beta and deviation gamma are sqrt(2 gamma^2 + (beta change)^2) apart at most, whatever the "
        "weights, and |beta change| at least."
    )

    def about(self) -> Any:
        """The method."""
        return "bn"

    def turned(self) -> Any:
        """Without normalization weights that grow move the outputs without bound."""
        return "none"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import made, normal
        from normbench.measures.wasserstein import distances

        x = normal(seed, 128, 64)
        before, after = (
            normal(seed, 200, 64, stream=1),
            normal(seed, 200, 64, stream=2) * 10 ** normal(seed, 200, 1, stream=3).clamp(-2, 2),
        )
        for shift in (0.0, 0.6):
            a, b = made(about, x @ before.mT, gamma=1.7), made(about, x @ after.mT, gamma=1.7, beta=shift)
            moved = distances(a.mT, b.mT)
            bound = (2 * 1.7**2 + shift**2) ** 0.5
            yield exact(
                f"largest distance over its upper bound, beta moved by {shift:g}",
                float(moved.max()) / bound,
                at_most=1.0,
            )
