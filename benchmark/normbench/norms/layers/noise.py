"""Random shifts and factors behind a layer."""

from __future__ import annotations

import torch
from torch import nn


class Noisy(nn.Module):
    """`s y + m` of what `norm` gives in training, `m` and `s` drawn for each channel and example from torch's global
    stream; their means in eval mode.

    Where all widths are 0 nothing is drawn and the layer's output passes untouched.
    """

    def __init__(self, norm: nn.Module, *, mean: float, scale: float, spread: float) -> None:
        super().__init__()
        self.norm = norm
        self.mean = mean
        self.scale = scale
        self.spread = spread

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        if (self.mean, self.scale, self.spread) == (0, 1, 0):
            return y
        if not self.training:
            return y * ((1 + self.scale) / 2)
        with torch.autocast(x.device.type, enabled=False):
            # Drawn in float32 whatever the precision, so that a float64 copy sees the same noise.
            examples, channels = torch.empty(y.shape[:2], device=y.device), torch.empty(1, y.shape[1], device=y.device)
            shift = channels.uniform_(-1, 1) * self.mean + examples.uniform_(-1, 1) * self.spread
            factor = (
                1
                + torch.empty_like(channels).uniform_() * (self.scale - 1)
                + torch.empty_like(examples).normal_() * self.spread
            )
            precise = y if y.dtype == torch.float64 else y.float()
            shape = (*y.shape[:2], *[1] * (y.ndim - 2))
            return (factor.to(precise.dtype).view(shape) * precise + shift.to(precise.dtype).view(shape)).to(y.dtype)

    def extra_repr(self) -> str:
        return f"mean={self.mean}, scale={self.scale}, spread={self.spread}"
