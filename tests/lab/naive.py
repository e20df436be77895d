"""Batches as a loop draws them, one after the other: what `normbench.lab.batches` draws at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional


def batches(count: int, size: int, *, drop_last: bool, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Index tensors of one shuffled epoch."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count, size):
        if start + size <= count or not drop_last:
            yield order[start : start + size]


def augment(images: torch.Tensor, kinds: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """Random crop (after zero padding by an eighth of the side) and horizontal flip, drawn for each image. images: (N,
    C, H, W).
    """
    count, _, side, _ = images.shape
    device = images.device
    if "crop" in kinds:
        pad = side // 8
        shifts = torch.randint(0, 2 * pad + 1, (2, count), generator=generator).to(device)
        padded = functional.pad(images, (pad,) * 4)
        span = torch.arange(side, device=device)
        rows, columns = (span + shifts[0, :, None])[:, None, :, None], (span + shifts[1, :, None])[:, None, None, :]
        samples, channels = (
            torch.arange(count, device=device)[:, None, None, None],
            torch.arange(images.shape[1], device=device)[None, :, None, None],
        )
        images = padded[samples, channels, rows, columns]
    if "flip" in kinds:
        flipped = (torch.rand(count, generator=generator) < 0.5).to(device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images
