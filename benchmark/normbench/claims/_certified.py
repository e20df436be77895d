"""Small networks of Lipschitz constant 1: what margins certify, and what attacks find (Tsuzuku et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch.nn import functional

from normbench.claims._small import digits

SEEDS, UNITS, TRAINED, IMAGES, TEMPERATURE = 4, 64, 900, 200, 20.0


@dataclass(frozen=True)
class Certified:
    """Of each network and held-out image, (SEEDS, IMAGES)."""

    weights: tuple[torch.Tensor, ...]
    images: torch.Tensor
    labels: torch.Tensor

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(S, B, 64) to (S, B, 10)."""
        return _logits(self.weights, x)

    def margins(self) -> torch.Tensor:
        """The right logit less the largest other; below zero where the network is wrong."""
        logits = self.logits(self.images)
        right = logits.gather(2, self.labels.unsqueeze(2)).squeeze(2)
        others = logits.scatter(2, self.labels.unsqueeze(2), -math.inf).amax(2)
        return right - others

    def radii(self) -> torch.Tensor:
        """L2 radius that a margin certifies, with a Lipschitz constant of 1."""
        return self.margins().clamp_min(0) / math.sqrt(2)

    def withstands(self, radii: torch.Tensor, steps: int = 40) -> torch.Tensor:
        """Whether an image is right at all points that a descent of its margin within its radius visits."""
        delta = torch.zeros_like(self.images)
        stood = self.margins() > 0
        for _ in range(steps):
            moved = Certified(self.weights, (self.images + delta).requires_grad_(), self.labels)
            (slope,) = torch.autograd.grad(moved.margins().sum(), moved.images)
            step = slope / slope.norm(dim=2, keepdim=True).clamp_min(1e-12)
            delta = delta - radii.unsqueeze(2) / 8 * step
            length = delta.norm(dim=2, keepdim=True).clamp_min(1e-12)
            # A hair within the ball, since rounding must not decide.
            delta = delta * (radii.unsqueeze(2) * (1 - 1e-6) / length).clamp(max=1)
            stood &= Certified(self.weights, self.images + delta, self.labels).margins() > 0
        return stood


def _logits(weights: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
    for i, weight in enumerate(weights):
        x = x @ (weight / torch.linalg.matrix_norm(weight, 2, keepdim=True)).mT
        x = x if i == len(weights) - 1 else x.relu()
    return x


@cache
def certified(seed: int) -> Certified:
    """Networks of one hidden layer trained on digits with spectral norms of 1."""
    images, labels = digits()
    generator = torch.Generator().manual_seed(seed)
    sizes = (64, UNITS, 10)
    weights = tuple(
        torch.randn(SEEDS, b, a, generator=generator, dtype=torch.float64).requires_grad_() for a, b in pairwise(sizes)
    )
    optimizer = torch.optim.SGD(weights, lr=0.5, momentum=0.9)
    for _ in range(120):
        chosen = torch.randint(TRAINED, (SEEDS, 64), generator=generator)
        logits = TEMPERATURE * _logits(weights, images[chosen].double())
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    held = slice(TRAINED, TRAINED + IMAGES)
    shown, right = (t[held].expand(SEEDS, *t[held].shape) for t in (images.double(), labels))
    return Certified(tuple(w.detach() for w in weights), shown, right)
