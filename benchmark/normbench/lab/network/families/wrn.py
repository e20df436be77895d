"""Wide residual networks for small images, by depth and width: `wrn-28-10`, `wrn-16-4`, ..."""

from __future__ import annotations

from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import he_normal, restem
from normbench.spec.architectures import wide_resnet


class WideResNet(Family):
    """Three stages of `(depth - 4) / 6` pre-activation blocks of two 3x3 convolutions, with 16, 32, 64 times `factor`
    channels behind a stem of 16.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146.
    """

    def build(self, request: Request) -> nn.Module:
        """The network from timm's blocks; `width` multiplies the stem too."""
        numbers = wide_resnet(request.name)
        if numbers is None:
            raise ValueError(f"{request.name} is no wide residual network")
        depth, factor = numbers
        model = ResNetV2(
            layers=[(depth - 4) // 6] * 3,
            channels=tuple(request.scaled(c * factor) for c in (16, 32, 64)),
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


FAMILY = WideResNet()
