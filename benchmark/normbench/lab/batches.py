"""The batches of an epoch: which images, and how each is moved and mirrored.

All of it is drawn on the CPU before the epoch, in the order in which a loop would draw it batch by batch, and copied to
the device at once, so that no step waits for the host. It depends on the generator alone, so that all methods see the
same batches on every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Batch:
    """B images of an epoch. `index` int64 (B,); on the device, as `shifts` and `flipped`, which are None where images
    are not moved or not mirrored.
    """

    index: torch.Tensor
    shifts: torch.Tensor | None
    """int64 (2, B): where the window on the padded image starts, its row and its column."""
    flipped: torch.Tensor | None
    """Bool (B,)."""
    seeds: Sequence[int]
    """One an image, for an attack; empty where none was asked for."""
    mix: int
    """Seed of how the images are mixed; 0 where none was asked for."""


def epoch(
    count: int,
    size: int,
    *,
    drop_last: bool,
    augment: Sequence[str],
    side: int,
    seeds: bool,
    mixes: bool = False,
    generator: torch.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    """The batches of one epoch over `count` images of `side` x `side` pixels. seeds: draw one for each image. mixes:
    draw one for each batch.
    """
    order = torch.randperm(count, generator=generator)
    sizes = [min(size, count - start) for start in range(0, count, size) if start + size <= count or not drop_last]
    shifts, flips, seeded, mixed = [], [], [], []
    for length in sizes:
        if "crop" in augment:
            shifts.append(torch.randint(0, 2 * _margin(side) + 1, (2, length), generator=generator))
        if "flip" in augment:
            flips.append(torch.rand(length, generator=generator) < 0.5)
        seeded.append(torch.randint(0, 2**62, (length,), generator=generator).tolist() if seeds else [])
        mixed.append(int(torch.randint(0, 2**32, (), generator=generator)) if mixes else 0)
    index = _sent(order[: sum(sizes)], device)
    moved = _sent(torch.cat(shifts, 1), device) if shifts else None
    mirrored = _sent(torch.cat(flips), device) if flips else None
    start = 0
    for length, own, mix in zip(sizes, seeded, mixed, strict=True):
        part = slice(start, start + length)
        yield Batch(
            index[part],
            None if moved is None else moved[:, part],
            None if mirrored is None else mirrored[part],
            own,
            mix,
        )
        start += length


def augmented(images: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Move the images by `shifts`, after zero padding by an eighth of the side, and mirror those that are `flipped`.
    images: (B, C, H, W).
    """
    count, channels, side, _ = images.shape
    device = images.device
    if batch.shifts is not None:
        padded = functional.pad(images, (_margin(side),) * 4)
        span = torch.arange(side, device=device)
        rows, columns = (span + shift[:, None] for shift in batch.shifts)
        images = padded[
            torch.arange(count, device=device)[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
    if batch.flipped is not None:
        images = torch.where(batch.flipped[:, None, None, None], images.flip(3), images)
    return images


def _margin(side: int) -> int:
    return side // 8


def _sent(drawn: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device; to a GPU by a copy that nobody waits for."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)
