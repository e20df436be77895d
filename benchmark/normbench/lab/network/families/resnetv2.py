"""Pre-activation ResNets."""

from __future__ import annotations

from typing import Any

from timm.layers import GroupNormAct
from torch import nn

from normbench.lab.network.family import Family, any_groups
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import he_normal, restem


class ResNetV2Family(Family):
    """timm's `width_factor`; a 3x3 stem of stride 1 without pooling."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        stem = {"stem_type": ""} if request.stem == "cifar" else {}
        norm = any_groups(given.get("norm_layer", GroupNormAct))
        return {**given, **stem, "width_factor": given.get("width_factor", 1) * request.width, "norm_layer": norm}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            restem(model.stem.conv, kernel=3, init=he_normal)
            model.stem.pool = nn.Identity()


FAMILY = ResNetV2Family()
