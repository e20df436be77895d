"""ResNets and their relatives."""

from __future__ import annotations

from typing import Any

from torch import nn

from normbench.lab.network.family import Family, any_groups
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import he_normal


class ResNetFamily(Family):
    """`channels` times the width; a 3x3 stem of stride 1 without pooling.

    timm builds 64 stem channels at any width, unless the stem is deep. So timm is asked for a deep stem of the right
    width, and a single convolution takes its place.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        deep = "deep" in given.get("stem_type", "")
        stem = request.scaled(2 * given.get("stem_width", 64) if deep else 64)
        channels = tuple(request.scaled(c) for c in given.get("channels") or (64, 128, 256, 512))
        kept = deep and request.stem == "native"
        return {
            **given,
            "channels": channels,
            "stem_width": stem // 2,
            "stem_type": given["stem_type"] if kept else "deep",
            "replace_stem_pool": request.stem == "native" and given.get("replace_stem_pool", False),
            "norm_layer": any_groups(given.get("norm_layer", nn.BatchNorm2d)),
        }

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "native" and "deep" in given.get("stem_type", ""):
            return
        cifar = request.stem == "cifar"
        conv = nn.Conv2d(
            request.channels,
            model.feature_info[0]["num_chs"],
            3 if cifar else 7,
            1 if cifar else 2,
            1 if cifar else 3,
            bias=False,
        )
        he_normal(conv.weight)
        model.conv1 = conv
        if cifar:
            model.maxpool = nn.Identity()


FAMILY = ResNetFamily()
