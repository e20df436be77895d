"""Batch whitening by Cholesky decomposition.

Equation: as in `benchmark/normbench/norms/_whitening.py` with `W = L^(-1)` of `S = L L^T`, L lower triangular.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from normbench.norms._whitening import CLAIMS, Whitening
from normbench.norms.base import Claims


class CholeskyWhitening(Whitening):
    name: ClassVar[str] = "bw-cd"
    summary: ClassVar[str] = "Batch whitening by Cholesky decomposition"
    aliases: ClassVar[tuple[str, ...]] = ("cholesky-whitening",)
    equation: ClassVar[str] = "y = gamma W (x - mu_NHW) + beta, W = L^(-1), S = cov_NHW(x) + eps I = L L^T"
    claims: ClassVar[Claims] = replace(CLAIMS, weight_scale="row")
    method: ClassVar[Literal["pca", "zca", "cd"]] = "cd"
