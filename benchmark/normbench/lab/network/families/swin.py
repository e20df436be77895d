"""Swin transformers."""

from __future__ import annotations

from typing import Any

from normbench.lab.network.family import Family
from normbench.lab.network.request import Request


class SwinFamily(Family):
    """`embed_dim` times the width, a multiple of the heads; patches of a sixteenth of the image, windows of 4x4."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        heads = given.get("num_heads", (3, 6, 12, 24))
        given = {**given, "embed_dim": request.scaled(given.get("embed_dim", 96), 4 * heads[0])}
        if request.stem == "cifar":
            given.update(patch_size=max(1, request.image_size // 16), window_size=4)
        return given


FAMILY = SwinFamily()
