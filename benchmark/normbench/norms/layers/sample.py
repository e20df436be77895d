"""Statistics of one example: token layer normalization, root mean square, filter response, and their mixture with batch
statistics.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from normbench.norms.layers.base import BatchLayer, Layer, others, per_channel, positions


class TokenLayerNorm(Layer):
    """Layer normalization over the channels of each position."""

    def __init__(self, channels: int, *, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.layer_norm(x.movedim(1, -1), (self.channels,), eps=self.eps).movedim(-1, 1)
        return (
            y.contiguous() if x.is_contiguous() else y
        )  # the layers behind it are to compute as they do behind other methods


class RmsNorm(Layer):
    """Division by the root mean square of the channels of each position."""

    def __init__(self, channels: int, *, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)


class FilterResponseNorm(Layer):
    """Division by the root mean square of the positions of each channel; with `tlu`, a maximum with a learned threshold
    behind it.
    """

    def __init__(self, channels: int, *, eps: float, affine: bool = True, tlu: bool = False) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps
        self.register_parameter("tau", nn.Parameter(torch.zeros(channels)) if tlu else None)

    tau: nn.Parameter | None

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        square = x.square()
        return x * torch.rsqrt((square.mean(positions(x), keepdim=True) if x.ndim > 2 else square) + self.eps)

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        return y if self.tau is None else torch.maximum(y, per_channel(self.tau, y))


class SwitchNorm(BatchLayer):
    """Means and variances of instance, layer and batch normalization, mixed by two softmaxes."""

    running_var: torch.Tensor

    def __init__(self, channels: int, *, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.mean_logits = nn.Parameter(torch.zeros(3))
        self.var_logits = nn.Parameter(torch.zeros(3))
        self.register_buffer("running_var", torch.ones(channels))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)
        var_in, mean_in = torch.var_mean(flat, 2, correction=0, keepdim=True)
        var_ln, mean_ln = torch.var_mean(flat, [1, 2], correction=0, keepdim=True)
        if self.training:
            var_bn, mean_bn = torch.var_mean(flat, others(flat), correction=0, keepdim=True)
            self.track(mean=mean_bn, var=var_bn)
        else:
            var_bn, mean_bn = per_channel(self.running_var, flat), per_channel(self.running_mean, flat)
        a, b = self.mean_logits.softmax(0), self.var_logits.softmax(0)
        mean = a[0] * mean_in + a[1] * mean_ln + a[2] * mean_bn
        var = b[0] * var_in + b[1] * var_ln + b[2] * var_bn
        return ((flat - mean) * torch.rsqrt(var + self.eps)).view(x.shape)
