"""Layers at the ends of residual branches, and scalars in front of convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from normbench.norms.base import NormSiteError
from normbench.norms.layers.base import Layer, per_channel

#: Of the learning rate, for scalars and biases.
TENTH = 0.1


class Scaled(nn.Module):
    """What `norm` gives, times a learned factor: one for all channels, or `(C,)`."""

    def __init__(self, norm: nn.Module, factor: torch.Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.factor = nn.Parameter(factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        return (y * (per_channel(self.factor, y) if self.factor.ndim else self.factor)).to(y.dtype)


def channels_of(layer: nn.Module) -> int:
    """Of a normalization layer, ours, one of torch, or one that is made of such. Raises `NormSiteError` where it does
    not say how many there are.
    """
    for module in layer.modules():
        for name in ("channels", "num_features", "num_channels"):
            if isinstance(found := getattr(module, name, None), int):
                return found
    raise NormSiteError(
        f"{type(layer).__name__} does not say how many channels it has: expected an attribute channels, num_features "
        "or num_channels"
    )


class Shift(Layer):
    """A learned scalar bias that starts at 0; where a residual branch ends, a learned scalar factor that starts at 1
    goes before. There is no gamma and no beta.
    """

    rate_shares: ClassVar[Mapping[str, float]] = {"shift": TENTH, "scale": TENTH}
    scale: nn.Parameter | None

    def __init__(self, channels: int, *, scaled: bool) -> None:
        super().__init__(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_parameter("scale", nn.Parameter(torch.ones(())) if scaled else None)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift if self.scale is None else x * self.scale + self.shift


def shift_input(module: nn.Module) -> None:
    """Give a convolution or linear layer a learned scalar that is added to its input, `before`. It starts at 0. Its
    biases are trained with a tenth of the rate.
    """
    like = next(module.parameters())
    module.register_parameter("before", nn.Parameter(like.new_zeros(())))
    module.rate_shares = {"before": TENTH, "bias": TENTH}  # type: ignore[assignment]
    module.register_forward_pre_hook(_shift)


def _shift(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0] + module.before, *inputs[1:])
