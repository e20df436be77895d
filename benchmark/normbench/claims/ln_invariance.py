"""Invariances of layer norm in weights and inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class LayerNormInvariance(Computed):
    name = "ln-invariance"
    summary = "Layer norm does not change when W or X is rescaled, or the same row is added to every row of W"
    source = "sun"
    theme = "algebra"
    place = "Section 2.3"
    test = "exact"
    scope = "12 inputs, 8 units, 32 examples, float64, eps 1e-12"
    note = (
        "W is rescaled as a whole. Rows that are rescaled by factors of their own change the output: see "
        "`row-orthogonality`."
    )

    def about(self) -> Any:
        """The method."""
        return "ln"

    def turned(self) -> Any:
        return "dyt"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        x, w, row = normal(seed, 32, 12), normal(seed, 8, 12, stream=1), normal(seed, 1, 12, stream=2)
        y = made(about, x @ w.mT)
        yield vanishes("W times 3", apart(made(about, x @ (3 * w).mT), y))
        yield vanishes("X times 3", apart(made(about, 3 * x @ w.mT), y))
        yield vanishes("a row added to each row of W", apart(made(about, x @ (w + row).mT), y))
