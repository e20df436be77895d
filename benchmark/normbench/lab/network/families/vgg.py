"""VGG networks."""

from __future__ import annotations

from typing import Any

from timm.layers import ClassifierHead
from torch import nn

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request


class VggFamily(Family):
    """The channel list times the width; on small images the last map goes straight into the classifier (the two layers
    of 4096 see 7x7 maps).
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        return {**given, "cfg": [c if c == "M" else request.scaled(c) for c in given["cfg"]]}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            model.pre_logits = nn.Identity()
            model.head_hidden_size = model.num_features
            model.head = ClassifierHead(
                model.num_features,
                request.classes,
                pool_type=given.get("global_pool", "avg"),
                drop_rate=given.get("drop_rate", 0.0),
            )
            nn.init.normal_(model.head.fc.weight, 0, 0.01)
            nn.init.zeros_(model.head.fc.bias)


FAMILY = VggFamily()
