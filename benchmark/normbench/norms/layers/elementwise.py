"""Layers without statistics: bounded functions of each value, and a scalar that starts a branch at zero."""

from __future__ import annotations

import torch
from torch import nn

from normbench.norms.layers.base import Layer


class DynamicTanh(Layer):
    """`tanh(alpha x)`, alpha a learned scalar."""

    def __init__(self, channels: int, *, alpha: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.alpha * x)


class DynamicErf(Layer):
    """`erf(alpha x + s)`, alpha and s learned scalars."""

    def __init__(self, channels: int, *, alpha: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.shift = nn.Parameter(torch.zeros(()))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(self.alpha * x + self.shift)


class SkipInit(Layer):
    """Gamma and beta of each channel, then a learned scalar that starts at zero."""

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.alpha = nn.Parameter(torch.zeros(()))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        return self.alpha * y
