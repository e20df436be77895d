"""Square attack: score-based."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.attacks.base import Attack, Sizes, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Queries (of 10,000) after which the share of pixels in a square halves (Andriushchenko et al. 2020, section 5.1).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class Square(Attack):
    """Random search: squares of random place and sign are set to +-eps and kept where the margin z_y - max_{i != y} z_i
    falls.

    It needs no gradient, so networks whose gradient is masked do not stop it.
    Source: Andriushchenko, Croce, Flammarion and Hein, "Square attack", 2020, algorithms 1 and 2.
    """

    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "Square attack, L-infinity, black box (logits only)"
    aliases: ClassVar[tuple[str, ...]] = ("square-linf", "square-attack")
    source: ClassVar[str] = "Andriushchenko et al., ECCV 2020, algorithms 1 and 2"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    queries: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Forward passes an image."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the pixels that the first squares cover."""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        channels, height, width = images.shape[1:]
        stripes = torch.stack([_signs(g, (channels, 1, width)) for g in generators]).to(images)
        best = (images + size * stripes).clamp(0, 1)
        # All draws of an image come from its own generator, in one go: place (2) and signs (channels) of every query.
        draws = torch.stack([torch.rand(self.queries, 2 + channels, generator=g) for g in generators]).to(images.device)
        standing = torch.arange(len(images), device=images.device)
        margin = self._margin(model, best, labels)
        for query in range(1, self.queries):
            standing = standing[margin[standing] > 0]
            if not len(standing):
                break
            side = self._side(query, height, width)
            drawn = draws[standing, query]
            top, left = (drawn[:, 0] * (height - side + 1)).long(), (drawn[:, 1] * (width - side + 1)).long()
            rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
            inside = ((rows >= top[:, None]) & (rows < top[:, None] + side))[:, None, :, None] & (
                (columns >= left[:, None]) & (columns < left[:, None] + side)
            )[:, None, None, :]
            signs = (drawn[:, 2:] < 0.5).to(images.dtype)[:, :, None, None] * 2 - 1
            tried = torch.where(inside, (images[standing] + size * signs).clamp(0, 1), best[standing])
            found = self._margin(model, tried, labels[standing])
            better = found < margin[standing]
            best[standing[better]], margin[standing[better]] = tried[better], found[better]
        return best

    def _side(self, query: int, height: int, width: int) -> int:
        halvings = sum(query * 10_000 // self.queries > h for h in HALVINGS)
        return min(height, width, max(1, round(math.sqrt(self.share * height * width / 2**halvings))))

    def _margin(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            logits = model(images)
        right = logits.gather(1, labels[:, None])[:, 0]
        other: torch.Tensor = logits.scatter(1, labels[:, None], -float("inf")).max(1).values
        return torch.sub(right, other)


def _signs(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    return torch.randint(0, 2, shape, generator=generator) * 2 - 1
