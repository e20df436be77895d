"""Transformers and mixers on patches of one size."""

from __future__ import annotations

from typing import Any

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request


class PatchFamily(Family):
    """`embed_dim` times the width, a multiple of the heads; patches of an eighth of the image."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        heads = given.get("num_heads", 12) if "num_blocks" not in given else 2
        given = {**given, "embed_dim": request.scaled(given.get("embed_dim", 768), 4 * heads)}
        if request.stem == "cifar":
            given["patch_size"] = max(1, request.image_size // 8)
        return given


FAMILY = PatchFamily()
