"""Divisions of each position of an example by one number: the length of its channels, or their deviation."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from normbench.norms.layers.base import Layer, per_channel


class OwnGain(Layer):
    """A layer in which gamma is more than a factor of each channel."""

    @abstractmethod
    def gained(self, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        """The output without beta; `x` is float32 or float64, `(N, C, *)`, gamma `(C,)`."""

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return self.gained(x, x.new_ones(self.channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is None or self.bias is None or x.ndim < 2 or x.shape[1] != self.channels:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            y = self.gained(x if x.dtype == torch.float64 else x.float(), self.weight)
            return (y + per_channel(self.bias, y)).to(x.dtype)


class SeeDNorm(OwnGain):
    """`(tanh(b . x) a + gamma) x / rms` of each position, a and b learned for each channel."""

    def __init__(self, channels: int, *, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels))
        self.direction = nn.Parameter(torch.zeros(channels))

    def gained(self, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        along = (x * per_channel(self.direction, x)).sum(1, keepdim=True).tanh()
        gain = along * per_channel(self.alpha, x) + per_channel(gamma, x)
        return gain * x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)


class ScaleNorm(OwnGain):
    """`g x / ||x||` of each position, with one g for all channels.

    The swap copies the gammas of the layer that stood there, so there is one for each channel, and `g = sqrt(C)
    mean(gamma)`. Each gets the whole gradient of their mean, so that they move together as one number does.
    """

    def __init__(self, channels: int, *, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps

    def gained(self, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        mean = gamma.mean()
        together = self.channels * mean - (self.channels - 1) * mean.detach()
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(self.eps)
        scale: torch.Tensor = self.channels**0.5 * together / length
        return x * scale


class SimpleNorm(Layer):
    """Division by the deviation of the channels of each position from their mean, which stays."""

    def __init__(self, channels: int, *, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.var(1, keepdim=True) + self.eps)
