"""The Lanczos process: eigenvalues of a symmetric matrix of which only products with vectors are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

#: The Krylov space is exhausted where the next direction is shorter than this share of the matrix' size as seen so far;
#: by precision.
EXHAUSTED = {torch.float64: 1e-12, torch.float32: 1e-6}
#: In a symmetric matrix the new direction meets the one before as that one met it, and no earlier one, to within this
#: share of the matrix' size.
SYMMETRIC = {torch.float64: 1e-8, torch.float32: 1e-3}


class AsymmetryError(ArithmeticError):
    """The products are not those of a symmetric matrix: a Hessian of which some layer's second derivative is wrong or
    left out.
    """


@dataclass(frozen=True)
class Spectrum:
    """What the Krylov space of one start vector sees of the eigenvalues; all float64 on the CPU, ascending.

    values: Ritz values (k,). weights: squared first components of the eigenvectors of the tridiagonal matrix, (k,),
    which sum to 1; with the values they are the quadrature of the spectral density that the start vector sees.
    residuals: |A x - value x| of each Ritz pair; within it lies an eigenvalue.
    """

    values: torch.Tensor
    weights: torch.Tensor
    residuals: torch.Tensor


def lanczos(times: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int) -> Spectrum:
    """`steps` of the process from `start` (P,), each new direction made orthogonal to all before it twice.

    Raises `AsymmetryError`. Source: Golub and Van Loan, Matrix Computations, section 10.3; the second pass is Kahan's
    "twice is enough".
    """
    steps = min(steps, len(start))
    basis = start.new_zeros(steps, len(start))
    basis[0] = start / start.norm()
    diagonal, beside = [], []
    for k in range(steps):
        w = times(basis[k])
        diagonal.append(float((basis[k].double() * w.double()).sum()))
        met = basis[: k + 1] @ w
        w = w - basis[: k + 1].mT @ met
        w = w - basis[: k + 1].mT @ (basis[: k + 1] @ w)
        beside.append(float(w.double().norm()))
        size = max(map(abs, (*diagonal, *beside)))
        if k and (apart := _asymmetry(met, beside[k - 1])) > SYMMETRIC[start.dtype] * size:
            message = f"the products are not those of a symmetric matrix: {apart:.1e} apart at size {size:.1e}"
            raise AsymmetryError(f"{message}; a layer's second derivative is wrong or missing")
        if k + 1 == steps or beside[-1] <= EXHAUSTED[start.dtype] * size:
            break
        basis[k + 1] = w / beside[-1]
    t = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(t + torch.diag(off, 1) + torch.diag(off, -1))
    return Spectrum(values, vectors[0].square(), beside[-1] * vectors[-1].abs())


def _asymmetry(met: torch.Tensor, before: float) -> float:
    """How far the products of a new image A q_k with q_1, ..., q_k are from 0, ..., 0, `before`, and its own."""
    expected = torch.zeros_like(met[:-1])
    expected[-1] = before
    return float((met[:-1] - expected).abs().max())
