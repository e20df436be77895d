"""Wide residual networks for small images, by depth and width: `wrn-28-10`, `wrn-16-4`, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from normbench.lab.network.request import Request
from normbench.lab.network.surgery import he_normal, restem
from normbench.spec.architectures import wide_resnet


@dataclass(frozen=True)
class WideResNet:
    """Three stages of `(depth - 4) / 6` pre-activation blocks of two 3x3 convolutions, with 16, 32, 64 times `factor`
    channels behind a stem of 16.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146.
    """

    depth: int
    factor: int

    @classmethod
    def parse(cls, request: Request) -> Self | None:
        """Read `wrn-DEPTH-FACTOR`; None where the name is another."""
        numbers = wide_resnet(request.name)
        return cls(*numbers) if numbers else None

    def build(self, request: Request) -> nn.Module:
        """The network from timm's blocks; `width` multiplies the stem too."""
        model = ResNetV2(
            layers=[(self.depth - 4) // 6] * 3,
            channels=tuple(request.scaled(c * self.factor) for c in (16, 32, 64)),
            num_classes=request.classes,
            in_chans=request.channels,
            stem_chs=request.scaled(16),
            basic=True,
            bottle_ratio=1.0,
            conv_layer=create_conv2d,
            norm_layer=BatchNormAct2d,
            **request.kwargs,
        )
        restem(model.stem.conv, kernel=3, init=he_normal)
        model.stem.pool = nn.Identity()
        built: nn.Module = model
        return built
