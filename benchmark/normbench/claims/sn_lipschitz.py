"""Equation 15: spectral normalization bounds the Lipschitz constant of a layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class SpectralLipschitz(Computed):
    name = "sn-lipschitz"
    summary = "Dividing a weight by its largest singular value bounds the Lipschitz constant of its layer by 1"
    source = "sun"
    theme = "robustness"
    place = "Equation 15 (first of that number)"
    test = "exact"
    scope = "a linear layer of 40x30, and a 3x3 convolution of 8 channels on maps of 8x8 with zeros around; float64"
    note = (
        "It holds for linear layers. Of a convolution the matrix of its rows is bounded, and the operator, which sees "
        "each input several times, is not."
    )

    def about(self) -> Any:
        """Singular value that is divided by: the largest."""
        return 0

    def turned(self) -> Any:
        return -1

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import normal

        matrix = normal(seed, 40, 30)
        bounded = matrix / torch.linalg.svdvals(matrix)[about]
        yield exact("largest singular value, linear", float(torch.linalg.svdvals(bounded)[0]), at_most=1 + 1e-9)
        kernel = normal(seed, 8, 8, 3, 3)
        kernel = kernel / torch.linalg.svdvals(kernel.flatten(1))[about]
        inputs = torch.eye(8 * 64, dtype=torch.float64).view(-1, 8, 8, 8)
        operator = torch.nn.functional.conv2d(inputs, kernel, padding=1).flatten(1)
        yield exact("largest singular value, convolution", float(torch.linalg.svdvals(operator)[0]), at_most=1 + 1e-9)
