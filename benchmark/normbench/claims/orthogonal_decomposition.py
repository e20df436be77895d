"""Lemma 1: a vector as its standardized direction and the direction of ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class OrthogonalDecomposition(Computed):
    name = "orthogonal-decomposition"
    summary = "v = gamma N(v) + beta e with gamma the deviation and beta the mean, so |v|^2 = n (gamma^2 + beta^2)"
    source = "sun"
    theme = "algebra"
    place = "Lemma 1 (5), equations 3 and 4"
    test = "exact"
    scope = "a vector of 50 values, float64"
    note = (
        "In the statement gamma is |v - mean| / sqrt(n). The proof of part 3 prints 1 / n in place of 1 / sqrt(n), "
        "with which neither equation holds."
    )

    def about(self) -> Any:
        """The power of n by which the length of the centred vector is divided."""
        return 0.5

    def turned(self) -> Any:
        return 1.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import apart, made, normal

        v = normal(seed, 50, 1) + 0.7
        gamma, beta = (v - v.mean()).norm() / len(v) ** about, v.mean()
        yield vanishes("v against gamma N(v) + beta e", apart(gamma * made("bn", v) + beta, v))
        yield vanishes("|v|^2 against n (gamma^2 + beta^2)", apart(len(v) * (gamma**2 + beta**2), v.square().sum()))
