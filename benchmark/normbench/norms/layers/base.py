"""What own layers share: affine parameters, arithmetic in float32 or better, running statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from normbench.norms.base import NormSiteError


def per_channel(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`(C,)` viewed so that it broadcasts over `x` of shape `(N, C, *)`."""
    return value.view(1, -1, *[1] * (x.ndim - 2))


def others(x: torch.Tensor) -> list[int]:
    """The axes of `x`, `(N, C, *)`, that are not the channels."""
    return [0, *range(2, x.ndim)]


def positions(x: torch.Tensor) -> list[int]:
    """The axes of `x`, `(N, C, *)`, behind the channels."""
    return list(range(2, x.ndim))


class Layer(nn.Module, ABC):
    """Maps `(N, C, *)` to the same shape: `normalize`, then gamma and beta of each channel.

    Computes in float32 where the input is half precision or autocast is on, in float64 for float64 input, and returns
    the input's dtype.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)

    @abstractmethod
    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """`x` is float32 or float64, `(N, C, *)`; the result has its shape."""

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """What comes behind gamma and beta; nothing here."""
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(
                f"{type(self).__name__}: expected (N, {self.channels}, *), got a tensor of shape {tuple(x.shape)}"
            )
        with torch.autocast(x.device.type, enabled=False):
            y = self.normalize(x if x.dtype == torch.float64 else x.float())
            if self.weight is not None and self.bias is not None:
                y = y * per_channel(self.weight, y) + per_channel(self.bias, y)
            return self.finish(y).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, affine={self.weight is not None}"


class Affine(Layer):
    """Only gamma and beta."""

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x


class BatchLayer(Layer):
    """Statistics of the batch in training, running ones in eval mode: `running <- (1 - momentum) running + momentum
    batch`.
    """

    running_mean: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, channels: int, *, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def track(self, **statistics: torch.Tensor) -> None:
        """Move each `running_NAME` towards the statistic `NAME` of this batch."""
        self.num_batches_tracked.add_(1)
        for name, value in statistics.items():
            running: torch.Tensor = getattr(self, f"running_{name}")
            running.lerp_(value.detach().to(running.dtype).view_as(running), self.momentum)

    def require_values(self, x: torch.Tensor) -> int:
        """How many values each channel has. Raises `NormSiteError` in training where it is one, which has no deviation
        from its mean.
        """
        count = x.numel() // x.shape[1]
        if self.training and count == 1:
            raise NormSiteError(
                f"{type(self).__name__}: one value a channel has no variance: a batch of one example with one "
                f"position, shape {tuple(x.shape)}"
            )
        return count
