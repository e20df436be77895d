"""Whitening: decorrelates channels within groups, over the batch or over the positions of one example.

Matrix functions run in float64: eigenvalues of a float32 covariance with dead channels are too close for its own
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from normbench.norms.layers.base import BatchLayer, Layer, per_channel

#: Eigenvalues closer than this share of the largest count as equal (a float32 covariance tells no closer ones apart):
#: their eigenvectors have no direction of their own, and no gradient.
SAME_EIGENVALUE = 1e-7


class _InverseRoot(torch.autograd.Function):
    """`A^(-1/2)` of symmetric positive definite matrices, `(*, d, d)`.

    The gradient is that of the matrix function (Daleckii and Krein): `U (K * U^T G U) U^T` with `K_ij = -1 / (sqrt(l_i
    l_j) (sqrt(l_i) + sqrt(l_j)))`, which, unlike the gradient of single eigenvectors, is finite where eigenvalues
    coincide.
    """

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a)
        values, vectors = torch.linalg.eigh(a)
        root: torch.Tensor = (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT
        return root

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (grad,) = grads
        values, vectors = torch.linalg.eigh(ctx.saved_tensors[0])
        roots = values.sqrt()
        k = -1 / (roots.unsqueeze(-1) * roots.unsqueeze(-2) * (roots.unsqueeze(-1) + roots.unsqueeze(-2)))
        inner = vectors.mT @ ((grad + grad.mT) / 2) @ vectors
        outer: torch.Tensor = vectors @ (k * inner) @ vectors.mT
        return outer


class _Eigh(torch.autograd.Function):
    """Eigenvalues and eigenvectors of symmetric matrices; pairs of equal eigenvalues take no part in the gradient.
    Signs are fixed so that the largest component of each vector is positive.
    """

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = _signed_eigh(a)
        ctx.save_for_backward(a)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        grad_values, grad_vectors = grads
        values, vectors = _signed_eigh(ctx.saved_tensors[0])
        gap = values.unsqueeze(-2) - values.unsqueeze(-1)
        distinct = gap.abs() > SAME_EIGENVALUE * values[..., -1:, None]
        f = torch.where(distinct, 1 / torch.where(distinct, gap, 1), 0)
        inner = torch.diag_embed(grad_values) + f * (vectors.mT @ grad_vectors)
        grad = vectors @ inner @ vectors.mT
        return (grad + grad.mT) / 2


def _signed_eigh(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(a)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return values, vectors * largest.sign()


def zca(covariance: torch.Tensor) -> torch.Tensor:
    """`U L^(-1/2) U^T`: the whitening that stays closest to the input."""
    return _InverseRoot.apply(covariance)  # type: ignore[no-any-return]


def pca(covariance: torch.Tensor) -> torch.Tensor:
    """`L^(-1/2) U^T`: onto the principal axes."""
    values, vectors = _Eigh.apply(covariance)
    whitening: torch.Tensor = values.rsqrt().unsqueeze(-1) * vectors.mT
    return whitening


def cholesky(covariance: torch.Tensor) -> torch.Tensor:
    """`L^(-1)` of `covariance = L L^T`."""
    factor = torch.linalg.cholesky(covariance)
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    whitening: torch.Tensor = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return whitening


def newton(covariance: torch.Tensor, iterations: int) -> torch.Tensor:
    """An approximation of ZCA whitening by Newton's iteration on `covariance / trace`.

    In coupled form, with `q` on its way to the square root: `P <- (3 P - P^3 S) / 2` by itself loses the symmetry that
    it rests on to rounding, and diverges after some 20 iterations.
    """
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device).expand_as(covariance)
    p, q = eye, covariance / trace
    for _ in range(iterations):
        step = 1.5 * eye - 0.5 * (p @ q)
        p, q = step @ p, q @ step
    return p / trace.sqrt()


def regularized(covariance: torch.Tensor, eps: float, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`function(covariance + eps I)`, in float64. Where a network has diverged and the covariance is not finite,
    neither is the result (decompositions would raise instead, and hide what happened).
    """
    eye = torch.eye(covariance.shape[-1], dtype=torch.float64, device=covariance.device)
    finite = covariance.isfinite().all(-1).all(-1)[..., None, None]
    whitening = function(torch.where(finite, covariance.double() + eps * eye, eye))
    return torch.where(finite, whitening, torch.nan).to(covariance.dtype)


WHITENINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"pca": pca, "zca": zca, "cd": cholesky}


class BatchWhitening(BatchLayer):
    """Decorrelates the channels of each of `groups` groups over batch and positions. Eval mode whitens by running mean
    and covariance.
    """

    running_covariance: torch.Tensor

    def __init__(
        self,
        channels: int,
        *,
        method: Literal["pca", "zca", "cd", "newton"],
        groups: int,
        eps: float,
        momentum: float,
        affine: bool = True,
        iterations: int = 0,
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum, affine=affine)
        self.method = method
        self.iterations = iterations
        self.num_groups = groups
        size = channels // groups
        self.register_buffer("running_covariance", torch.eye(size).repeat(groups, 1, 1))

    def whitening(self, covariance: torch.Tensor) -> torch.Tensor:
        """`(groups, size, size)` to the same: what the centred channels are multiplied by."""
        function = partial(newton, iterations=self.iterations) if self.method == "newton" else WHITENINGS[self.method]
        return regularized(covariance, self.eps, function)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        count = self.require_values(x)
        if self.training:
            mean = x.transpose(0, 1).flatten(1).mean(1)
            centred = self._grouped(x - per_channel(mean, x))
            covariance = centred @ centred.mT / count
            self.track(mean=mean, covariance=covariance)
        else:
            centred = self._grouped(x - per_channel(self.running_mean, x))
            covariance = self.running_covariance
        white = self.whitening(covariance) @ centred
        return white.view(self.channels, x.shape[0], *x.shape[2:]).transpose(0, 1)

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C, *)` as `(groups, C / groups, N *)`."""
        return x.transpose(0, 1).reshape(self.num_groups, self.channels // self.num_groups, -1)


class GroupWhitening(Layer):
    """Decorrelates the groups of channels of each example over the channels of a group and the positions."""

    def __init__(self, channels: int, *, groups: int, eps: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.num_groups = groups
        self.eps = eps

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        centred = grouped - grouped.mean(2, keepdim=True)
        covariance = centred @ centred.mT / centred.shape[2]
        return (regularized(covariance, self.eps, zca) @ centred).view(x.shape)
