"""Equation 10: batch norm puts each unit on a sphere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchNormSphere(Computed):
    name = "bn-sphere"
    summary = "Over a batch of B, a unit behind batch norm has the length sqrt(B (gamma^2 + beta^2))"
    source = "sun"
    theme = "algebra"
    place = "Equation 10"
    test = "exact"
    scope = "linear layer of 8 units, batches of 5 and 64, gamma -1.3, beta 0.4, float64, eps 1e-12"
    note = "With an eps in the denominator the length is shorter by gamma^2 eps / (s^2 + eps): the measure `sphere`."

    def about(self) -> Any:
        """The method."""
        return "bn"

    def turned(self) -> Any:
        return "ln-tok"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        for size in (5, 64):
            y = made(about, normal(seed, size, 8) * 2 + 1, gamma=-1.3, beta=0.4)
            lengths = y.norm(dim=0)
            yield vanishes(f"length at B = {size}", apart(lengths, lengths * 0 + (size * (1.3**2 + 0.4**2)) ** 0.5))
