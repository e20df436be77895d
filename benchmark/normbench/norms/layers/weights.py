"""Parametrizations of weights `(out, in, *)`; a row is everything that makes one output channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize


def row_axes(weight: torch.Tensor) -> list[int]:
    """The axes of `weight` within a row."""
    return list(range(1, weight.ndim))


class Standardized(nn.Module):
    """`(w - mean) / sqrt(var + eps)` of each row, var biased."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        var, mean = torch.var_mean(weight, row_axes(weight), correction=0, keepdim=True)
        return (weight - mean) * torch.rsqrt(var + self.eps)


class ScaledStandardized(nn.Module):
    """`gain gamma (w - mean) / sqrt(fan_in var + eps)` of each row, gain learned."""

    def __init__(self, weight: torch.Tensor, *, gamma: float, eps: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.eps = eps
        self.gain = nn.Parameter(
            torch.ones(weight.shape[0], *[1] * (weight.ndim - 1), dtype=weight.dtype, device=weight.device)
        )

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        var, mean = torch.var_mean(weight, row_axes(weight), correction=0, keepdim=True)
        return self.gain * self.gamma * (weight - mean) * torch.rsqrt(weight[0].numel() * var + self.eps)


class CentredNormalized(nn.Module):
    """`g (v - mean) / ||v - mean||` of each row, g learned; g starts so that the weight starts at `v - mean`."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            centred = weight - weight.mean(row_axes(weight), keepdim=True)
            self.g = nn.Parameter(torch.linalg.vector_norm(centred, dim=row_axes(weight), keepdim=True))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        centred = weight - weight.mean(row_axes(weight), keepdim=True)
        weighted: torch.Tensor = (
            self.g * centred / torch.linalg.vector_norm(centred, dim=row_axes(weight), keepdim=True)
        )
        return weighted


class Spectral(nn.Module):
    """`W / (u^T W v)` of the weight as a matrix of rows. u and v are constants of the graph and move by `advance`
    alone, so that reading the weight changes nothing (torch's own parametrization moves them at every access in
    training).
    """

    u: torch.Tensor
    v: torch.Tensor

    def __init__(self, weight: torch.Tensor, *, eps: float, start: int) -> None:
        super().__init__()
        self.eps = eps
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", nn.functional.normalize(matrix.new_empty(matrix.shape[0]).normal_(), dim=0, eps=eps))
        self.register_buffer("v", nn.functional.normalize(matrix.new_empty(matrix.shape[1]).normal_(), dim=0, eps=eps))
        for _ in range(start):
            self.advance(weight)

    @torch.no_grad()
    def advance(self, weight: torch.Tensor) -> None:
        """One step of power iteration."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            u = nn.functional.normalize(matrix @ self.v, dim=0, eps=self.eps)
            self.u = u
            self.v = nn.functional.normalize(matrix.mT @ u, dim=0, eps=self.eps)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            # sums of products, not a matrix product: autocast and TF32 leave them in the weight's precision
            sigma = (self.u.unsqueeze(1) * weight.flatten(1) * self.v).sum()
            return weight / sigma


def advance(module: nn.Module, _inputs: Any) -> None:
    """Forward pre-hook of a layer with a `Spectral` weight: one step a forward pass in training."""
    if module.training:
        chain: Any = module.parametrizations["weight"]  # type: ignore[index]
        for step in chain:
            if isinstance(step, Spectral):
                step.advance(chain.original)


def register(module: nn.Module, parametrization: nn.Module) -> None:
    """Put `parametrization` on `module.weight`, without running it backwards (these are projections and have no
    inverse).
    """
    parametrize.register_parametrization(module, "weight", parametrization)
