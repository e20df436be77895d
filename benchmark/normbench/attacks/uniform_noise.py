"""Additive uniform noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.attacks.base import Attack, Sizes, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn


class UniformNoise(Attack):
    """x' = clip(x + width * u, 0, 1) with u uniform in [-1, 1], independent in every pixel and channel, one draw an
    image.

    The same draw at every size, and for every method trained with the same seed, so that curves and comparisons are
    paired. Source: the random baseline of Fawzi et al. 2016; as `LinfAdditiveUniformNoiseAttack` in foolbox.
    """

    name: ClassVar[str] = "uniform-noise"
    summary: ClassVar[str] = "additive uniform noise"
    source: ClassVar[str] = "Fawzi et al., NeurIPS 2016 (random noise baseline)"
    threat: ClassVar[Threat] = "noise"
    size_field: ClassVar[str] = "width"

    width: Sizes = (1 / 16,)
    """Half the width of the interval in pixel space."""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        drawn = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators])
        return (images + size * (2 * drawn.to(images.device) - 1)).clamp_(0, 1)
