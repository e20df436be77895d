"""The order of the examples of a batch does not matter to batch norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchPermutation(Computed):
    name = "batch-permutation"
    summary = "Permuting the examples of a batch permutes the output of batch norm and changes nothing else"
    source = "sun"
    theme = "batch"
    place = "Section 2.2, thirdly"
    test = "exact"
    scope = "8 units, a batch of 16, 20 permutations, float64"

    def about(self) -> Any:
        """The method."""
        return "bn"

    def turned(self) -> Any:
        """Ghost batches see which examples stand together."""
        return "ghost-bn[size=4]"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import apart, made, normal

        x = normal(seed, 16, 8)
        y = made(about, x)
        orders = [torch.randperm(16, generator=torch.Generator().manual_seed(20 * seed + i)) for i in range(20)]
        outputs = [made(about, x[o]) for o in orders]
        yield vanishes("output of each example", max(apart(z, y[o]) for z, o in zip(outputs, orders, strict=True)))
        cubes = y.pow(3).sum(0)
        yield vanishes("sum of cubes over the batch", max(apart(z.pow(3).sum(0), cubes) for z in outputs))
