"""Changes to single layers of a built network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def he_normal(weight: torch.Tensor) -> None:
    """The initialization of convolutions in timm's ResNets."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def restem(conv: nn.Conv2d, *, kernel: int, init: Callable[[torch.Tensor], object], stride: int = 1) -> None:
    """Give `conv` another kernel size and stride, in place, and new initial weights. The class of the convolution
    stays.
    """
    conv.kernel_size = (kernel, kernel)
    conv.stride = (stride, stride)
    if conv.padding != (0, 0):  # a convolution that pads by the size of its input has no padding of its own
        conv.padding = (kernel // 2, kernel // 2)
    conv.weight = nn.Parameter(
        conv.weight.new_empty(conv.out_channels, conv.in_channels // conv.groups, kernel, kernel)
    )
    init(conv.weight)


def destride(module: nn.Module) -> None:
    """Set every stride within `module` to one, in place; pooling disappears."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.stride = (1, 1)
        for key, pool in child._modules.items():
            if isinstance(pool, nn.MaxPool2d | nn.AvgPool2d):
                child._modules[key] = nn.Identity()
