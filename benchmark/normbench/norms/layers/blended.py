"""Relatives of batch normalization: by the mean alone, by the range, by running statistics in training, and two
mixtures with instance normalization.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from normbench.norms.layers.base import BatchLayer, Layer, others, per_channel, positions
from normbench.norms.layers.batch import BatchNorm
from normbench.norms.layers.instance import InstanceNorm


class MeanOnlyBatchNorm(BatchLayer):
    """Batch normalization without the division."""

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        self.require_values(x)
        if not self.training:
            return x - per_channel(self.running_mean, x)
        mean = x.mean(others(x), keepdim=True)
        self.track(mean=mean)
        return x - mean


class RobustNorm(BatchLayer):
    """Batch normalization by a power of the range instead of the deviation."""

    running_range: torch.Tensor

    def __init__(self, channels: int, *, power: float, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.power = power
        self.register_buffer("running_range", torch.ones(channels))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        self.require_values(x)
        if self.training:
            mean = x.mean(others(x), keepdim=True)
            width = x.amax(others(x), keepdim=True) - x.amin(others(x), keepdim=True)
            self.track(mean=mean, range=width)
        else:
            mean, width = per_channel(self.running_mean, x), per_channel(self.running_range, x)
        # The slope of a power below 1 is infinite at 0, where a channel is constant.
        return (x - mean) / (width.clamp_min(1e-30) ** self.power + self.eps)


class EmaBatchNorm(BatchLayer):
    """Batch normalization by the running statistics, in training too, once this batch has moved them. The gradient goes
    through the share that this batch has in them.
    """

    running_var: torch.Tensor

    def __init__(self, channels: int, *, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.register_buffer("running_var", torch.ones(channels))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = per_channel(self.running_mean, x), per_channel(self.running_var, x)
        if self.training:
            count = x.numel() // x.shape[1]
            batch_var, batch_mean = torch.var_mean(x, others(x), correction=0, keepdim=True)
            share = self.momentum
            mean = (1 - share) * mean + share * batch_mean
            var = (1 - share) * var + share * batch_var * (count / max(1, count - 1))
            with torch.no_grad():
                self.running_mean.copy_(mean.view(-1))
                self.running_var.copy_(var.view(-1))
                self.num_batches_tracked.add_(1)
        return (x - mean) * torch.rsqrt(var + self.eps)


class InstanceBatchNorm(Layer):
    """Instance normalization of the first `num_groups` channels, batch normalization of the others."""

    def __init__(self, channels: int, *, instance: int, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps
        self.momentum = momentum
        self.num_groups = instance
        self.instance = InstanceNorm(instance, eps=eps, affine=False)
        self.batch = BatchNorm(channels - instance, eps=eps, momentum=momentum, affine=False)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        if self.num_groups == 0:
            return self.batch(x)  # type: ignore[no-any-return]
        first, rest = x[:, : self.num_groups], x[:, self.num_groups :]
        return torch.cat([self.instance(first), self.batch(rest)], 1)


class BatchInstanceNorm(BatchLayer):
    """A mixture of batch and instance normalization: `gate` of each channel, a share from 0 to 1."""

    running_var: torch.Tensor
    #: Parameters that stay between two numbers.
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"gate": (0.0, 1.0)}

    def __init__(self, channels: int, *, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.register_buffer("running_var", torch.ones(channels))
        self.gate = nn.Parameter(torch.ones(channels))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        count = self.require_values(x)
        if self.training:
            var, mean = torch.var_mean(x, others(x), correction=0, keepdim=True)
            self.track(mean=mean, var=var * count / (count - 1))
            with torch.no_grad():
                # What the optimizer's last step took beyond the bounds. A clamp in the graph would never let it return.
                self.gate.clamp_(*self.bounds["gate"])
            gate = self.gate.clone()  # the next forward may write to the parameter before this graph runs backwards
        else:
            mean, var = per_channel(self.running_mean, x), per_channel(self.running_var, x)
            gate = self.gate.clamp(*self.bounds["gate"])
        batch = (x - mean) * torch.rsqrt(var + self.eps)
        if x.ndim == 2 or x[0, 0].numel() == 1:
            return batch
        own_var, own_mean = torch.var_mean(x, positions(x), correction=0, keepdim=True)
        instance = (x - own_mean) * torch.rsqrt(own_var + self.eps)
        share = per_channel(gate, x)
        return share * batch + (1 - share) * instance
