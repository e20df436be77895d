"""How likely a weight is to lie in the kernel when the batch is small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class KernelProbable(Computed):
    name = "kernel-probable"
    summary = "For B far below n a weight lies in the kernel of the covariance, or very close to it, nearly always"
    source = "sun"
    theme = "batch"
    place = "Section 2.2, rank analysis"
    test = "simulated"
    scope = "n = 512, B = 8, 10,000 random weights, float64"
    note = (
        "Close in angle, as B - 1 of n directions are left; but in the kernel with probability zero, and batch norm "
        "scales what is left up again: the output does not collapse to beta."
    )

    def about(self) -> Any:
        """Inputs n, and the batch size B."""
        return 512, 8

    def turned(self) -> Any:
        """A batch far above the width."""
        return 16, 128

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import made, normal

        n, size = about
        x, w = normal(seed, size, n), normal(seed, 10_000, n, stream=1)
        _, values, right = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        span = right[values > 1e-9 * values[0]]
        outside = 1 - (w @ span.mT).square().sum(1) / w.square().sum(1)
        yield exact("smallest share of a weight's energy in the kernel", float(outside.min()), at_least=0.9)
        yield exact(
            "share of weights within 1e-6 of the kernel", float((outside > 1 - 1e-6).double().mean()), at_least=0.5
        )
        y = made("bn", x @ w[:100].mT)
        yield exact("smallest deviation of an output over the batch", float(y.std(0, correction=0).min()), at_most=0.5)
