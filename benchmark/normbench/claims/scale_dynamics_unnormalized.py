"""The tutorial's table: a network whose weights are multiplied, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class ScaleDynamicsUnnormalized(Computed):
    name = "scale-dynamics-unnormalized"
    summary = (
        "Without normalization, weights times alpha_k multiply inputs, output gradients and weight gradients by "
        "products of the other factors"
    )
    source = "huang"
    theme = "dynamics"
    place = "Slide: scale dynamics for a network, row un-normalized"
    test = "exact"
    scope = "4 layers of 12 units with ReLU, 64 examples, alpha from 0.5 to 3, float64"
    note = (
        "The gradients of the table are those of a loss that is linear in the network's output. With cross-entropy "
        "the gradient that enters at the top changes with the scale too."
    )

    def about(self) -> Any:
        """The method behind each layer, and losses."""
        return ("none", ("linear", "cross-entropy"))

    def turned(self) -> Any:
        """The other row's network."""
        return ("bn", ("linear",))

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._dynamics import ALPHAS, plain, ratios

        method, losses = about
        for loss in losses:
            found = ratios(method, loss, seed)
            expected = plain(ALPHAS)
            for what in ("layer inputs", "output gradients", "weight gradients"):
                error = max(abs(a / b - 1) for a, b in zip(found[what], expected[what], strict=True))
                yield vanishes(f"{what}, {loss} loss", error)
