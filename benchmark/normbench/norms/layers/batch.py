"""Batch normalization for any number of positions, and its relatives."""

from __future__ import annotations

import math

import torch
from torch import nn

from normbench.norms.layers.base import BatchLayer, others, per_channel
from normbench.tensors.private import AnyBatchNorm


class BatchNorm(AnyBatchNorm):
    """`torch.nn.BatchNorm2d` for `(N, C, *)` with any number of trailing axes, none included."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C, *), got a tensor of shape {tuple(input.shape)}")


class GhostBatchNorm(BatchNorm):
    """Batch normalization of each chunk of `size` examples; the last chunk takes what is left over, so that none is
    tiny.
    """

    def __init__(self, channels: int, *, size: int, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.size = size

    def chunks(self, examples: int) -> int:
        """How many parts of a batch have their own statistics."""
        return max(1, examples // self.size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = self.chunks(x.shape[0])
        if not self.training or count == 1:
            return super().forward(x)
        cuts = [self.size * i for i in range(1, count)]
        forward = super().forward
        return torch.cat([forward(chunk) for chunk in torch.tensor_split(x, cuts)])


class LpBatchNorm(BatchLayer):
    """Batch normalization by the p-th root of the p-th absolute central moment."""

    running_scale: torch.Tensor

    def __init__(self, channels: int, *, p: float, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.p = p
        self.register_buffer("running_scale", torch.ones(channels))

    def constant(self, count: int) -> float:
        """What makes the scale of `count` normally distributed values their standard deviation, for finite p.

        For p = inf it is the constant of Hoffer et al., which is too large: the output of such values has a standard
        deviation of .74 with 32 of them, .70 with 1,000 and with 16,000.
        """
        if math.isinf(self.p):
            return (1 + math.sqrt(math.pi * math.log(4))) / (2 * math.sqrt(2 * math.log(count)))
        return math.exp(-(self.p / 2 * math.log(2) + math.lgamma((self.p + 1) / 2) - math.log(math.pi) / 2) / self.p)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        count = self.require_values(x)
        if not self.training:
            return (x - per_channel(self.running_mean, x)) / per_channel(self.running_scale, x)
        mean = x.mean(others(x), keepdim=True)
        centred = x - mean
        c = self.constant(count)
        if math.isinf(self.p):
            scale = c * centred.abs().amax(others(x), keepdim=True) + self.eps
        else:
            scale = (c**self.p * centred.abs().pow(self.p).mean(others(x), keepdim=True) + self.eps) ** (1 / self.p)
        self.track(mean=mean, scale=scale)
        return centred / scale


class BatchRenorm(BatchLayer):
    """Batch normalization corrected towards the running statistics, within bounds that open over the first steps."""

    running_std: torch.Tensor

    def __init__(
        self,
        channels: int,
        *,
        r_max: float,
        d_max: float,
        warmup: int,
        eps: float,
        momentum: float,
        affine: bool = True,
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.r_max = r_max
        self.d_max = d_max
        self.warmup = warmup
        self.register_buffer("running_std", torch.ones(channels))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        self.require_values(x)
        running_mean, running_std = per_channel(self.running_mean, x), per_channel(self.running_std, x)
        if not self.training:
            return (x - running_mean) / running_std
        var, mean = torch.var_mean(x, others(x), correction=0, keepdim=True)
        std = (var + self.eps).sqrt()
        with torch.no_grad():
            opened = (self.num_batches_tracked / self.warmup).clamp(max=1).to(x.dtype)
            r_max = 1 + opened * (self.r_max - 1)
            d_max = opened * self.d_max
            r = (std / running_std).clamp(1 / r_max, r_max)
            d = ((mean - running_mean) / running_std).clamp(-d_max, d_max)
        y = (x - mean) / std * r + d
        self.track(mean=mean, std=std)
        return y


class BatchChannelNorm(nn.Module):
    """Batch normalization, then group normalization, each with its own gamma and beta."""

    def __init__(self, channels: int, *, groups: int, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__()
        self.batch = BatchNorm(channels, eps=eps, momentum=momentum, affine=affine)
        self.group = nn.GroupNorm(groups, channels, eps=eps, affine=affine)
        self.num_groups = groups
        self.eps = eps
        self.momentum = momentum

    @property
    def weight(self) -> nn.Parameter:
        """Gamma of the group normalization, which comes last."""
        return self.group.weight

    @property
    def bias(self) -> nn.Parameter:
        """Beta of the group normalization, which comes last."""
        return self.group.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.group(self.batch(x))
        return y.to(x.dtype)
