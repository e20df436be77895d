"""ConvNeXts."""

from __future__ import annotations

from typing import Any

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request
from normbench.lab.network.surgery import destride


class ConvNeXtFamily(Family):
    """`dims` times the width; a stem of stride 1."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        given = {**given, "dims": tuple(request.scaled(d) for d in given.get("dims", (96, 192, 384, 768)))}
        if given.get("head_hidden_size"):
            given["head_hidden_size"] = request.scaled(given["head_hidden_size"])
        if request.stem == "cifar" and given.get("stem_type", "patch") == "patch":
            given["patch_size"] = 1
        return given

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(model.stem)


FAMILY = ConvNeXtFamily()
