"""RegNets."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from timm.models import regnet
from torch import nn

from normbench.lab.network._timm import replaced
from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import destride


class RegNetFamily(Family):
    """The width of every stage, the stem and the head times the width, group sizes as they are; stem and first stage of
    stride 1.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        cfg = given["cfg"]
        head = request.scaled(cfg.num_features, 8) if cfg.num_features else 0
        return {**given, "cfg": replace(cfg, stem_width=request.scaled(cfg.stem_width, 8), num_features=head)}

    def building(self, request: Request) -> AbstractContextManager[object]:
        original = regnet.generate_regnet

        def generate(*args: Any, **kwargs: Any) -> tuple[list[int], int, list[int]]:
            widths, stages, groups = original(*args, **kwargs)
            return [request.scaled(w, 8) for w in widths], stages, groups

        return replaced(regnet, "generate_regnet", generate)

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(nn.ModuleList([model.stem, model.s1]))


FAMILY = RegNetFamily()
