"""Builds the network of a trial: timm's architecture, with the trial's stem, width and normalization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.invariance import audited
from normbench.lab.network.swap import Audit, swap
from normbench.spec.trial import Trial

__all__ = ["ModelError", "PixelModel", "build", "move", "request", "swapped"]


class PixelModel(nn.Module):
    """Maps images in pixel space, `(N, C, H, W)` float in [0, 1], to logits `(N, classes)`: standardizes each channel,
    then calls `network`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"expected one mean and one positive std a channel, got {tuple(mean)} and {tuple(std)}")
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network((images - self.mean) / self.std)
        return logits


def build(
    trial: Trial, *, channels: int, image_size: int, classes: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[PixelModel, Audit]:
    """The network of `trial` for images of `channels` x `image_size` x `image_size`, and what the swap did.

    Seeds torch with the trial's seed, so every method starts from the same weights. `mean` and `std` of the pixels: one
    value a channel. Raises `ModelError`, `SwapError`, `FlowError` or `NormSiteError`, each naming the architecture or
    the place.
    """
    torch.manual_seed(trial.seed)
    network, done = swapped(trial, channels=channels, image_size=image_size, classes=classes)
    return PixelModel(network, mean, std), audited(network, done, channels, image_size)


def swapped(trial: Trial, *, channels: int, image_size: int, classes: int) -> tuple[nn.Module, Audit]:
    """The network alone, which takes standardized images and whose weights come from torch's random state; of the
    audit, what needs no measuring.
    """
    network = construct(request(trial, channels=channels, image_size=image_size, classes=classes))
    return network, swap(network, trial.norm, torch.zeros(2, channels, image_size, image_size))


def request(trial: Trial, *, channels: int, image_size: int, classes: int) -> Request:
    """What the builder of networks is asked for."""
    return Request(
        name=trial.model.name,
        stem=trial.model.stem,
        width=trial.model.width,
        channels=channels,
        image_size=image_size,
        classes=classes,
        kwargs=trial.model.kwargs,
    )


def move(model: nn.Module, share: float) -> None:
    """Move every parameter by about this share of itself, at random."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters() if share else ():
            parameter.mul_(1 + share * torch.randn(parameter.shape, generator=generator))
