"""Theorem 3.5: batch norm and the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class SmoothnessTheorem(Computed):
    name = "smoothness-theorem"
    summary = (
        "Along its gradient the loss curves less with batch norm: gamma^2 / sigma^2 g^T H g less gamma / (m sigma^2) "
        "<g, y^> |gradient|^2"
    )
    source = "cai"
    theme = "training"
    place = "Theorem 3.5"
    test = "exact"
    scope = "8 units within a network with cross-entropy, a batch of 64, gamma 1.7, float64, eps 1e-12"
    note = (
        "It is an equality. That the second term helps needs <g, y^> > 0, which is an assumption of the source of "
        "the theorem."
    )

    def about(self) -> Any:
        """Sign of the second term."""
        return 1.0

    def turned(self) -> Any:
        return -1.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._landscape import sides

        _, _, left, (curved, correction) = sides(seed, gamma=1.7)
        right = curved - about * correction
        scale = float((curved.abs() + correction.abs()).max())
        yield exact(
            "largest left less right side, of the larger terms", float((left - right).max()) / scale, at_most=1e-7
        )
        yield exact(
            "smallest left less right side, where it is tight", float((left - right).min()) / scale, at_least=-1e-7
        )
