"""Parametrizations that keep weights `(out, in, *)` on a surface: a sphere, or the matrices with orthonormal rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from normbench.norms.layers.weights import row_axes


class Held(nn.Module):
    """A parametrization whose raw weight goes back to a surface after every step of the optimizer; see `hold`."""

    @abstractmethod
    def retract(self, weight: torch.Tensor) -> None:
        """Move the raw weight to the surface, in place."""


class OnSphere(Held):
    """`r v / |v|` of each row, or of the whole weight; r is `|v|` at the start."""

    radius: torch.Tensor

    def __init__(self, weight: torch.Tensor, unit: Literal["row", "tensor"]) -> None:
        super().__init__()
        self.axes = row_axes(weight) if unit == "row" else list(range(weight.ndim))
        self.register_buffer("radius", self._norm(weight.detach()))

    def _norm(self, weight: torch.Tensor) -> torch.Tensor:
        norm: torch.Tensor = torch.linalg.vector_norm(weight, dim=self.axes, keepdim=True)
        return norm

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * (self.radius / self._norm(weight))

    @torch.no_grad()
    def retract(self, weight: torch.Tensor) -> None:
        weight.copy_(self(weight))


def hold(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let every step of `optimizer` end with the weights of `model` on their surfaces. Nothing changes for a model
    without any.
    """
    chains = [module for module in model.modules() if isinstance(module, ParametrizationList)]
    held: list[tuple[Held, Any]] = [(p, chain.original) for chain in chains for p in chain if isinstance(p, Held)]

    def retract(*_: Any) -> None:
        for parametrization, raw in held:
            parametrization.retract(raw)

    if held:
        optimizer.register_step_post_hook(retract)


class Semiorthogonal(nn.Module):
    """`gain Q`: Q is made from the weight as a matrix of rows, and has orthonormal rows; orthonormal columns where the
    weight has more rows than values in a row.
    """

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    @abstractmethod
    def tall(self, matrix: torch.Tensor) -> torch.Tensor:
        """A matrix with at least as many rows as columns, `(p, q)`, to one of the same shape with orthonormal
        columns.
        """

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            wide = matrix.shape[0] < matrix.shape[1]
            made = self.tall(matrix.mT if wide else matrix)
            return self.gain * (made.mT if wide else made).reshape(weight.shape)


class Bjorck(Semiorthogonal):
    """Björck and Bowie's iteration of the first order, `V <- V (3 I - V^T V) / 2`, towards the nearest matrix with
    orthonormal columns. It converges from singular values in (0, sqrt(3)): V starts divided by the root of the largest
    absolute row sum of `V^T V`, which is no smaller than the largest of them.

    All factors are functions of `V^T V`, so they are multiplied with each other alone, and with V once. These matrices
    are as large as the shorter side of V.
    """

    def __init__(self, gain: float, steps: int) -> None:
        super().__init__(gain)
        self.steps = steps

    def tall(self, matrix: torch.Tensor) -> torch.Tensor:
        gram = matrix.mT @ matrix
        size = gram.abs().sum(1).amax()
        gram = gram / size
        one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        product = one * torch.rsqrt(size)
        for _ in range(self.steps):
            factor = 1.5 * one - 0.5 * gram
            product = product @ factor
            gram = factor @ gram @ factor
        made: torch.Tensor = matrix @ product
        return made


class Cayley(Semiorthogonal):
    """Of `alpha V / |V|`, cut into a square U and the rest W: `A = U - U^T + W^T W` and
    `Q = [(I - A); -2 W] (I + A)^-1`. alpha is learned and starts at `|V|`.
    """

    def __init__(self, weight: torch.Tensor, gain: float) -> None:
        super().__init__(gain)
        self.alpha = nn.Parameter(torch.linalg.vector_norm(weight.detach()))

    def tall(self, matrix: torch.Tensor) -> torch.Tensor:
        matrix = matrix * (self.alpha / torch.linalg.vector_norm(matrix))
        square, rest = matrix[: matrix.shape[1]], matrix[matrix.shape[1] :]
        a = square - square.mT + rest.mT @ rest
        one = torch.eye(len(a), dtype=a.dtype, device=a.device)
        inverse = torch.linalg.inv_ex(one + a).inverse  # it always exists: the eigenvalues of A have real parts >= 0
        made: torch.Tensor = torch.cat([one - a, -2 * rest]) @ inverse
        return made


def overlap(module: nn.Linear | nn.Conv2d) -> int:
    """At how many positions of the kernel one value of the input is read, at most. The root of it bounds by how much
    the convolution may lengthen what its matrix of rows does not.
    """
    if isinstance(module, nn.Linear):
        return 1
    sizes = zip(module.kernel_size, module.stride, module.dilation, strict=True)
    return math.prod(math.ceil(kernel / (stride // math.gcd(stride, dilation))) for kernel, stride, dilation in sizes)
