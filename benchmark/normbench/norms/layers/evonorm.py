"""EvoNorms: normalization and activation in one expression. Without the activation, the same statistics divide
plainly.
"""

from __future__ import annotations

import torch
from torch import nn

from normbench.norms.layers.base import BatchLayer, Layer, others, per_channel, positions


class EvoNormB0(BatchLayer):
    """`x / max(sqrt(var_NHW + eps), v x + sqrt(var_HW + eps))`; without activation `x / sqrt(var_NHW + eps)`."""

    running_var: torch.Tensor
    v: nn.Parameter | None

    def __init__(
        self, channels: int, *, eps: float, momentum: float, affine: bool = True, activated: bool = True
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.register_buffer("running_var", torch.ones(channels))
        self.register_parameter("v", nn.Parameter(torch.ones(channels)) if activated else None)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        count = self.require_values(x)
        if self.training:
            var, mean = torch.var_mean(x, others(x), correction=0, keepdim=True)
            self.track(mean=mean, var=var * count / (count - 1))
        else:
            var = per_channel(self.running_var, x)
        batch = (var + self.eps).sqrt()
        if self.v is None:
            return x / batch
        instance = x.var(positions(x), correction=0, keepdim=True) if x.ndim > 2 else torch.zeros_like(x)
        return x / torch.maximum(batch, per_channel(self.v, x) * x + (instance + self.eps).sqrt())


class EvoNormS0(Layer):
    """`x sigmoid(v x) / sqrt(var_group + eps)`; without activation `x / sqrt(var_group + eps)`."""

    v: nn.Parameter | None

    def __init__(self, channels: int, *, groups: int, eps: float, affine: bool = True, activated: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.num_groups = groups
        self.eps = eps
        self.register_parameter("v", nn.Parameter(torch.ones(channels)) if activated else None)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        std = (grouped.var(2, correction=0, keepdim=True) + self.eps).sqrt()
        y = (grouped / std).view(x.shape)
        return y if self.v is None else y * torch.sigmoid(per_channel(self.v, x) * x)
