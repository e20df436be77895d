"""Networks of inverted residuals: EfficientNets, MobileNets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import destride


class MobileFamily(Family):
    """Networks of inverted residuals: every number of channels times the width, rounded as timm does; stem and first
    strided stage of stride 1.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        given = dict(given)
        if request.width != 1:
            rounding: Callable[..., int] = given["round_chs_fn"]
            given["round_chs_fn"] = lambda channels, **kwargs: rounding(channels * request.width, **kwargs)
            given["num_features"] = request.scaled(given.get("num_features", 1280), 8)
            if given.get("fix_stem"):
                given["stem_size"] = request.scaled(given.get("stem_size", 32), 8)
        if request.stem == "cifar":
            blocks = copy.deepcopy(given["block_args"])
            strided = next((block for stage in blocks for block in stage if block.get("stride", 1) > 1), None)
            if strided is not None:
                strided["stride"] = 1
            given["block_args"] = blocks
        return given

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(model.conv_stem)


FAMILY = MobileFamily()
