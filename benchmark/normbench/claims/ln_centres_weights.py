"""Equation 13: layer norm centres the weights, then normalizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class LayerNormCentresWeights(Computed):
    name = "ln-centres-weights"
    summary = "Layer norm of WX is that of (W - mean of its rows) X, put on a sphere of radius sqrt(m)"
    source = "sun"
    theme = "algebra"
    place = "Equation 13"
    test = "exact"
    scope = "12 inputs, 8 units, 32 examples, float64, eps 1e-12"

    def about(self) -> Any:
        """The axis of W over which the mean is taken: over rows."""
        return 0

    def turned(self) -> Any:
        return 1

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        x, w = normal(seed, 32, 12), normal(seed, 8, 12, stream=1)
        z = x @ (w - w.mean(about, keepdim=True)).mT
        sphere = 8**0.5 * z / z.norm(dim=1, keepdim=True)
        yield vanishes("LN(WX) against the right side", apart(sphere, made("ln", x @ w.mT)))
