"""Steps, projections and random starts in L-infinity, L2 and L1 balls; images (N, C, H, W).

Operations stand in foolbox's order, so that results are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

BallName = Literal["linf", "l2", "l1"]
#: Norms below this are taken as this, so that a zero gradient gives a zero step instead of a NaN.
TINY = 1e-12


def norms(x: torch.Tensor, ball: BallName) -> torch.Tensor:
    """The norm of each image, (N, 1, 1, 1)."""
    flat = x.flatten(1)
    found = (
        flat.abs().max(1).values
        if ball == "linf"
        else flat.square().sum(1).sqrt()
        if ball == "l2"
        else flat.abs().sum(1)
    )
    return found.view(-1, 1, 1, 1)


def unit_step(gradient: torch.Tensor, ball: BallName) -> torch.Tensor:
    """The direction of one step: the sign for L-infinity, else the gradient at norm 1."""
    if ball == "linf":
        return gradient.sign()
    return gradient * (1 / norms(gradient, ball).clamp(min=TINY))


def project(x: torch.Tensor, origin: torch.Tensor, size: float, ball: BallName) -> torch.Tensor:
    """Back into the ball around `origin`: cut per pixel for L-infinity, else shortened."""
    moved = x - origin
    if ball == "linf":
        return origin + moved.clamp(-size, size)
    return origin + moved * (size / norms(moved, ball).clamp(min=TINY)).clamp(max=1)


def nearest_in_l1(x: torch.Tensor, origin: torch.Tensor, size: float) -> torch.Tensor:
    """The closest point of the L1 ball (Duchi et al. 2008, figure 1); images inside stay as they are."""
    moved = (x - origin).flatten(1)
    ordered = moved.abs().sort(1, descending=True).values
    excess = ordered.cumsum(1) - size
    count = torch.arange(1, moved.shape[1] + 1, device=x.device, dtype=x.dtype)
    kept = (ordered * count > excess).sum(1, keepdim=True).clamp(min=1)
    threshold = (excess.gather(1, kept - 1) / kept).clamp(min=0)
    return origin + (moved.sign() * (moved.abs() - threshold).clamp(min=0)).view_as(x)


def sparse_step(gradient: torch.Tensor, x: torch.Tensor, share: float) -> torch.Tensor:
    """The sign of the `share` of pixels with the largest gradients, at L1 norm 1; pixels that would leave [0, 1] count
    as zero (Tramèr and Boneh 2019).
    """
    leaving = ((x <= 0) & (gradient < 0)) | ((x >= 1) & (gradient > 0))
    flat = gradient.masked_fill(leaving, 0).flatten(1)
    count = max(1, round(share * flat.shape[1]))
    chosen = flat.abs().topk(count, dim=1).indices
    step = torch.zeros_like(flat).scatter_(1, chosen, flat.gather(1, chosen).sign())
    return unit_step(step.view_as(gradient), "l1")


def random_starts(
    images: torch.Tensor, size: float, ball: BallName, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Uniform in the ball around each image, cut to [0, 1]; one generator an image."""
    drawn = torch.stack([_uniform(images.shape[1:], ball, g) for g in generators]).to(images)
    return (images + size * drawn).clamp(0, 1)


def _uniform(shape: torch.Size, ball: BallName, generator: torch.Generator) -> torch.Tensor:
    """A point drawn uniformly from the unit ball."""
    count = shape.numel()
    if ball == "linf":
        return torch.rand(shape, generator=generator) * 2 - 1
    if ball == "l2":  # the first n of n + 2 coordinates of a point on the sphere (Voelker et al. 2017)
        normal = torch.randn(count + 2, generator=generator)
        on_sphere: torch.Tensor = normal / torch.linalg.vector_norm(normal)
        return on_sphere[:count].view(shape)
    gaps = torch.empty(count + 1).exponential_(generator=generator)
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    point: torch.Tensor = torch.mul(signs, (gaps / gaps.sum())[:count])
    return point.view(shape)
