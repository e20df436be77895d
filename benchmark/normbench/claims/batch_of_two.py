"""A batch of two: nothing but signs is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchOfTwo(Computed):
    name = "batch-of-two"
    summary = "At B = 2 the output of batch norm is (-1, 1) or (1, -1), whatever the weights"
    source = "sun"
    theme = "batch"
    place = "Section 2.2, rank analysis"
    test = "exact"
    scope = "100 units of a linear layer, float64, eps 1e-12; equal pre-activations left out"

    def about(self) -> Any:
        """The batch size."""
        return 2

    def turned(self) -> Any:
        return 3

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import made, normal

        y = made("bn", normal(seed, about, 20) @ normal(seed, 20, 100, stream=1) + 3)
        yield vanishes("largest | |y| - 1 |", float((y.abs() - 1).abs().max()))
        yield vanishes("largest |sum over the batch|", float(y[:2].sum(0).abs().max()))
