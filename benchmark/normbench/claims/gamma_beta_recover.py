"""Batch norm can be the identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class GammaBetaRecover(Computed):
    name = "gamma-beta-recover"
    summary = "With gamma the deviation and beta the mean of its input, batch norm gives the input back"
    source = "cai"
    theme = "algebra"
    place = "Section 2.2"
    test = "exact"
    scope = "8 units, a batch of 64, float64, eps 1e-12"

    def about(self) -> Any:
        """How many values less than m the variance is divided by."""
        return 0

    def turned(self) -> Any:
        return 1

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import apart, layer, normal

        x = normal(seed, 64, 8) * 2 + 1
        unit = layer("bn", 8)
        with torch.no_grad():
            unit.weight.copy_(x.std(0, correction=about))  # type: ignore[operator]
            unit.bias.copy_(x.mean(0))  # type: ignore[operator]
        yield vanishes("output against input", apart(unit(x), x))
