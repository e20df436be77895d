"""A weight in the kernel of its input's covariance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class KernelCollapse(Computed):
    name = "kernel-collapse"
    summary = "A unit whose weight lies in the kernel of the input's covariance gives beta for every example"
    source = "sun"
    theme = "batch"
    place = "Section 2.2, rank analysis"
    test = "exact"
    scope = "n = 32, B = 8, beta 0.4, float64, eps 1e-5"

    def about(self) -> Any:
        """Share of the weight that lies in the kernel."""
        return 1.0

    def turned(self) -> Any:
        return 0.99

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import covariance, layer, normal

        x, w = normal(seed, 8, 32), normal(seed, 1, 32, stream=1)
        values, vectors = torch.linalg.eigh(covariance(x))
        kernel = vectors[:, values < 1e-10 * values[-1]]
        inside = w @ kernel @ kernel.mT
        unit = layer("bn", 1, eps=1e-5)
        torch.nn.init.constant_(unit.bias, 0.4)  # type: ignore[arg-type]
        y = unit(x @ (about * inside + (1 - about) * w).mT)
        yield vanishes("largest |y - beta|", float((y - 0.4).abs().max()))
