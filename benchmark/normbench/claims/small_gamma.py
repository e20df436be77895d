"""A unit with a small gamma carries little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class SmallGamma(Computed):
    name = "small-gamma"
    summary = "The output of a unit with a small gamma is nearly the constant beta"
    source = "sun"
    theme = "units"
    place = "Section 1.2, after Liu et al. 2017"
    test = "exact"
    scope = "8 units, a batch of 64, gamma from 1 to 1e-3, beta 0.4, float64, eps 1e-12"

    def about(self) -> Any:
        """The method."""
        return "bn"

    def turned(self) -> Any:
        """Units of one group share a scale, so that gamma does not say how far each spreads."""
        return "gn[groups=1]"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import layer, normal

        x = normal(seed, 64, 8) * torch.tensor([1.0, 50.0] * 4, dtype=torch.float64)
        for gamma in (1.0, 1e-3):
            unit = layer(about, 8)
            torch.nn.init.constant_(unit.weight, gamma)  # type: ignore[arg-type]
            torch.nn.init.constant_(unit.bias, 0.4)  # type: ignore[arg-type]
            spread = (unit(x) - 0.4).square().mean(0).sqrt()
            yield vanishes(
                f"distance from beta over gamma, less 1, at gamma {gamma:g}", float((spread / gamma - 1).abs().max())
            )
