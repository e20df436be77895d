"""Additive Gaussian noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.attacks.base import Attack, Sizes, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn


class Noise(Attack):
    """x' = clip(x + std * z, 0, 1) with z ~ N(0, 1) independent in every pixel and channel, one draw an image.

    The same z at every `std`, and for every method trained with the same seed, so that curves and comparisons are
    paired. Source: Hendrycks and Dietterich 2019 (Gaussian noise); Sun et al. 2020, section 3.
    """

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "additive Gaussian noise"
    aliases: ClassVar[tuple[str, ...]] = ("gaussian-noise",)
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019"
    threat: ClassVar[Threat] = "noise"
    size_field: ClassVar[str] = "std"

    std: Sizes = (1 / 16,)
    """Standard deviations in pixel space."""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        drawn = torch.stack([torch.randn(images.shape[1:], generator=g) for g in generators])
        return (images + size * drawn.to(images.device)).clamp_(0, 1)
