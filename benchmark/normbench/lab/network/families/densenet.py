"""DenseNets."""

from __future__ import annotations

from typing import Any

from torch import nn

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import restem


class DenseNetFamily(Family):
    """The growth rate times the width, which the stem follows; a 3x3 stem of stride 1 without pooling."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        stem = {"stem_type": ""} if request.stem == "cifar" else {}
        return {**given, **stem, "growth_rate": request.scaled(given.get("growth_rate", 32))}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            restem(model.features.conv0, kernel=3, init=nn.init.kaiming_normal_)
            model.features.pool0 = nn.Identity()


FAMILY = DenseNetFamily()
