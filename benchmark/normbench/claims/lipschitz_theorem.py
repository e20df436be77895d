"""Theorem 3.4: batch norm and the gradient of the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class LipschitzTheorem(Computed):
    name = "lipschitz-theorem"
    summary = "|grad of the loss to y|^2 with batch norm <= gamma^2 / sigma^2 (|g|^2 - <1, g>^2 / m - <g, y^>^2 / m)"
    source = "cai"
    theme = "training"
    place = "Theorem 3.4"
    test = "exact"
    scope = (
        "8 units within a network with ReLU and cross-entropy, a batch of 64, gamma 1.7, float64, eps 1e-12; g the "
        "gradient without batch norm"
    )
    note = (
        "The report prints the left side without the square, with which the inequality is false; as Santurkar et al. "
        "have it, it holds and is an equality."
    )

    def about(self) -> Any:
        """The power of the left side."""
        return (2,)

    def turned(self) -> Any:
        """As printed."""
        return (1,)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._landscape import sides

        left, right, _, _ = sides(seed, gamma=1.7)
        for power in about:
            yield exact(
                f"largest left over right side, left to the power {power}",
                float((left**power / right).max()),
                at_most=1 + 1e-6,
            )
        yield exact(
            "smallest left over right side, where it is tight",
            float((left ** about[0] / right).min()),
            at_least=1 - 1e-6,
        )
