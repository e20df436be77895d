"""Common corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.attacks.base import Attack, Severities, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "defocus_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
]


class Corruptions(Attack):
    """The corruptions of CIFAR-10-C that need no pictures and no image library, made with its constants, cut to 8 bits
    as there.

    Each kind is scored by itself. Draws and JPEG versions are not those of the published files, so these are not
    CIFAR-10-C: see `cifar10-c` for that. Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to
    common corruptions and perturbations", 2019, section 4.
    """

    name: ClassVar[str] = "corruptions"
    summary: ClassVar[str] = "noise, blur, colour and compression with the constants of CIFAR-10-C"
    aliases: ClassVar[tuple[str, ...]] = ("common-corruptions",)
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019, section 4"
    threat: ClassVar[Threat] = "corruption"
    size_field: ClassVar[str] = "severity"

    severity: Severities = (1, 2, 3, 4, 5)
    """From 1 to 5; no unit."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
    )
    """`saturate` is defined for RGB images only."""

    def parts(self) -> Sequence[Attack]:
        return tuple(Corruptions(severity=self.severity, kinds=(kind,)) for kind in self.kinds)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        from normbench.attacks._corrupt import CORRUPTIONS

        if len(self.kinds) != 1:
            raise ValueError("corruptions are scored kind by kind: perturb with one of `parts()`")
        changed = CORRUPTIONS[self.kinds[0]](images.cpu().double(), round(size), generators)
        # Cut down to 8 bits, not rounded, as the published files were; the tiny shift keeps whole numbers what they
        # are.
        return ((changed.clamp(0, 1) * 255 + 1e-9).floor() / 255).to(images)
