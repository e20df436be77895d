"""The residual networks for CIFAR: `resnet20`, `resnet32`, `resnet44`, `resnet56`, `resnet110`."""

from __future__ import annotations

import torch
from timm.models.resnet import BasicBlock
from torch import nn
from torch.nn import functional

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.spec.architectures import CIFAR_RESNETS


class Shortcut(nn.Module):
    """Every second row and column of an image's maps, and maps of zeros behind them: option A, without parameters.

    added: how many maps of zeros.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.added))


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of `blocks` blocks of two 3x3 convolutions each, the mean over the map, and a
    linear layer. The second and third stage begin with stride 2.

    channels: of the three stages; in_chans: of the images. Weights are drawn from N(0, 2 / fan-in), as the paper says
    by its reference to He et al. 2015; biases are zero, and batch norms torch's.
    """

    def __init__(self, blocks: int, channels: tuple[int, int, int], *, classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act1 = nn.ReLU(inplace=True)
        self.layer1 = stage(blocks, channels[0], channels[0])
        self.layer2 = stage(blocks, channels[0], channels[1])
        self.layer3 = stage(blocks, channels[1], channels[2])
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(channels[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.fc(self.global_pool(x))
        return logits


def stage(blocks: int, before: int, width: int) -> nn.Sequential:
    """Blocks of `width` channels. The first takes `before`; where that is fewer, it halves the map."""
    first = BasicBlock(before, width) if before == width else BasicBlock(before, width, 2, Shortcut(width - before))
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))


class CifarResNets(Family):
    """Of depth 6 n + 2: n blocks a stage, with 16, 32 and 64 channels times the width. The stem is the same for small
    and other images.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385, section 4.2.
    """

    def build(self, request: Request) -> nn.Module:
        """The network from timm's blocks."""
        depth = CIFAR_RESNETS[request.name]
        stem, middle, last = (request.scaled(c) for c in (16, 32, 64))
        return CifarResNet(
            (depth - 2) // 6,
            (stem, middle, last),
            classes=request.classes,
            in_chans=request.channels,
            **request.kwargs,
        )


FAMILY = CifarResNets()
