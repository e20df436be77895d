"""Both sides of two theorems about batch norm and the landscape of the loss (Santurkar et al. 2018)."""

from __future__ import annotations

import torch
from torch.nn import functional

from normbench.claims._layers import Function, layer, normal

UNITS, SIZE = 8, 64


def sides(
    seed: int, *, gamma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Of each of 8 units y_j of a layer within a network, (8,): length of the gradient of the loss to y_j with batch
    norm; the right side of the first theorem; the curvature along that gradient; and both terms of the right side of
    the second. g and H are gradient and Hessian of the loss to what batch norm gives.
    """
    y = normal(seed, SIZE, UNITS) @ normal(seed, UNITS, UNITS, stream=1) + 1
    labels = torch.arange(SIZE) % 5
    first, second = normal(seed, 16, UNITS, stream=2), normal(seed, 5, 16, stream=3) / 4

    def loss(z: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(torch.tanh(z @ first.mT) @ second.mT, labels, reduction="sum")

    unit = layer("bn", UNITS)
    standardized = unit(y)
    sigma = y.std(0, correction=0)

    def normalized(given: torch.Tensor) -> torch.Tensor:
        return loss(gamma * unit(given))

    g = _gradient(loss, gamma * standardized)
    gradient = _gradient(normalized, y)
    ones, along = g.sum(0) ** 2 / SIZE, (g * standardized).sum(0) ** 2 / SIZE
    right = gamma**2 / sigma**2 * (g.square().sum(0) - ones - along)
    left, curved = torch.empty(UNITS).double(), torch.empty(UNITS).double()
    for j in range(UNITS):
        direction = torch.zeros_like(y)
        direction[:, j] = gradient[:, j]
        left[j] = (_hessian(normalized, y, direction) * direction).sum()
        curved[j] = gamma**2 / sigma[j] ** 2 * (_hessian(loss, gamma * standardized, direction) * direction).sum()
    correction = gamma / (SIZE * sigma**2) * (g * standardized).sum(0) * gradient.square().sum(0)
    return gradient.norm(dim=0), right, left, (curved, correction)


def _gradient(function: Function, at: torch.Tensor) -> torch.Tensor:
    given = at.clone().requires_grad_()
    return torch.autograd.grad(function(given), given)[0]


def _hessian(function: Function, at: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Hessian at a point times a vector, by two backward passes."""
    given = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(given), given, create_graph=True)
    (product,) = torch.autograd.grad((gradient * vector).sum(), given)
    return product
