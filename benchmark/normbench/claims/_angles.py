"""How far a scale-invariant weight turns at each step of SGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from normbench.claims._layers import layer, normal
from normbench.norms import WeightNorm, registry
from normbench.studies._stats import Array

#: Rows of the weight, their inputs, and examples in a batch.
ROWS, INPUTS, BATCH = 8, 48, 16


@dataclass(frozen=True)
class Setting:
    """Of SGD."""

    lr: float
    decay: float
    momentum: float


def steps(method: str, settings: Sequence[Setting], *, count: int, seed: int) -> Array:
    """(count, settings): the angle in radians that the raw weight of a linear layer turns at each step, a mean over its
    rows where each is invariant, of the whole weight for layer norm. Targets are noise, drawn anew at every step. All
    settings start from one weight and see the same inputs.
    """
    several, whole = len(settings), method == "ln"
    raw = (normal(seed, 1, ROWS, INPUTS) / INPUTS**0.5).repeat(several, 1, 1)
    lr, decay, momentum = (
        torch.tensor([getattr(s, k) for s in settings], dtype=torch.float64).view(-1, 1, 1)
        for k in ("lr", "decay", "momentum")
    )
    kind = registry.parse(method)
    # Layer norm of several networks side by side is group norm, a group a network.
    text = f"gn[groups={several}]" if whole else method
    norm = None if isinstance(kind, WeightNorm) else layer(text, several * ROWS)
    generator = torch.Generator().manual_seed(seed + 1)
    velocity = torch.zeros_like(raw)
    angles = np.empty((count, several))
    for i in range(count):
        x = torch.randn(BATCH, INPUTS, generator=generator, dtype=torch.float64)
        noise = torch.randn(BATCH, ROWS, generator=generator, dtype=torch.float64).repeat(1, several)
        w = raw.clone().requires_grad_()
        if norm is not None:
            y = norm(x @ w.flatten(0, 1).mT)
        else:
            v = w if method == "wn" else w - w.mean(2, keepdim=True)
            y = x @ (v / v.norm(dim=2, keepdim=True)).flatten(0, 1).mT
        (gradient,) = torch.autograd.grad((y * noise).mean(0).sum(), w)
        velocity = momentum * velocity + gradient + decay * raw
        moved = raw - lr * velocity
        a, b = (t.flatten(1).unsqueeze(1) if whole else t for t in (raw, moved))
        chord = (a / a.norm(dim=2, keepdim=True) - b / b.norm(dim=2, keepdim=True)).norm(dim=2)
        angles[i] = (2 * torch.asin((chord / 2).clamp(max=1))).mean(1).numpy()
        raw = moved
    return angles
