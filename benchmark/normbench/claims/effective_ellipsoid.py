"""Equation 12: the effective weight of batch norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class EffectiveEllipsoid(Computed):
    name = "effective-ellipsoid"
    summary = "Batch norm is the linear map W'X + b', and each row of W' lies on an ellipsoid: w' S w'^T = gamma^2"
    source = "sun"
    theme = "units"
    place = "Equations 11 and 12"
    test = "exact"
    scope = "12 inputs, 8 units, a batch of 64 with correlated inputs, gamma 1.7, beta 0.4, float64, eps 1e-12"

    def about(self) -> Any:
        """What the variance of the output is divided by."""
        return 1.0

    def turned(self) -> Any:
        return 2.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, covariance, made, normal

        x = normal(seed, 64, 12) @ normal(seed, 12, 12, stream=1) + 1
        w = normal(seed, 8, 12, stream=2)
        s = covariance(x)
        effective = 1.7 * w / ((w @ s @ w.mT).diagonal()[:, None] / about).sqrt()
        shift = 0.4 - effective @ x.mean(0)
        yield vanishes(
            "BN(WX) against W'X + b'", apart(x @ effective.mT + shift, made("bn", x @ w.mT, gamma=1.7, beta=0.4))
        )
        energy = (effective @ s @ effective.mT).diagonal()
        yield vanishes("w' S w'^T against gamma^2", apart(energy, energy * 0 + 1.7**2))
