"""Salt-and-pepper noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.attacks.base import Attack, Sizes, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn


class SaltAndPepper(Attack):
    """Each value of each channel becomes 0 or 1, with probability share / 2 each; a value changed at one share is
    changed at every larger one.

    The same draw at every size, and for every method trained with the same seed, so that curves and comparisons are
    paired. Source: Hendrycks and Dietterich 2019 (impulse noise).
    """

    name: ClassVar[str] = "salt-and-pepper"
    summary: ClassVar[str] = "salt-and-pepper (impulse) noise"
    aliases: ClassVar[tuple[str, ...]] = ("impulse-noise", "salt-pepper")
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019 (impulse noise)"
    threat: ClassVar[Threat] = "noise"
    size_field: ClassVar[str] = "share"

    share: Sizes = (0.01, 0.05)
    """Of the values that are replaced."""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        drawn = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators]).to(images.device)
        kind = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators]).to(images.device)
        return torch.where(drawn < size, (kind < 0.5).to(images.dtype), images)
