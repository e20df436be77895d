"""The rank of a layer's input covariance, and the kernel that it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class RankBound(Computed):
    name = "rank-bound"
    summary = "With B examples of n inputs the covariance has rank min(n, B) at most, and a kernel of n - B at least"
    source = "sun"
    theme = "batch"
    place = "Section 2.2, behind equation 11"
    test = "exact"
    scope = "n = 32, B from 2 to 64, normally distributed inputs, float64"
    note = "The mean costs one more: the rank is min(n, B - 1)."

    def about(self) -> Any:
        """What the rank is claimed to be at most, less min(n, B)."""
        return 0

    def turned(self) -> Any:
        return -2

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import normal
        from normbench.measures.rank import rank_and_energy

        for size in (2, 8, 31, 32, 33, 64):
            rank, _ = rank_and_energy(normal(seed, 1, size, 32), torch.zeros(1, 1, 32).double(), 1e-10)
            yield exact(f"rank less min(n, B) at B = {size}", rank - min(32, size), at_most=about)
