"""The tutorial's table: a network whose weights are multiplied, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class ScaleDynamicsNormalized(Computed):
    name = "scale-dynamics-normalized"
    summary = (
        "With normalization, weights times alpha_k leave all layer inputs as they are, and divide the gradients of "
        "layer k by alpha_k"
    )
    source = "huang"
    theme = "dynamics"
    place = "Slide: scale dynamics for a network, row normalized"
    test = "exact"
    scope = "4 layers of 12 units with ReLU, 64 examples, alpha from 0.5 to 3, float64, eps 1e-12"

    def about(self) -> Any:
        """The method behind each layer, and losses."""
        return ("bn", ("linear", "cross-entropy"))

    def turned(self) -> Any:
        """The other row's network."""
        return ("none", ("linear", "cross-entropy"))

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._dynamics import ALPHAS, normalized, ratios

        method, losses = about
        for loss in losses:
            found = ratios(method, loss, seed)
            expected = normalized(ALPHAS)
            for what in ("layer inputs", "output gradients", "weight gradients"):
                error = max(abs(a / b - 1) for a, b in zip(found[what], expected[what], strict=True))
                yield vanishes(f"{what}, {loss} loss", error)
