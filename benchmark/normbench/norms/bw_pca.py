"""Batch whitening onto principal axes.

Equation: as in `benchmark/normbench/norms/_whitening.py` with `W = L^(-1/2) U^T` of `S = U L U^T`. The axes are sorted
by eigenvalue, so a channel of the output may change its meaning from batch to batch. Eigenvectors of equal eigenvalues
(dead channels) have no gradient of their own and get none.

Invariances: each group of rows of the weights before it may be rescaled by its own factor (up to eps).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from normbench.norms._whitening import Whitening


class PcaWhitening(Whitening):
    name: ClassVar[str] = "bw-pca"
    summary: ClassVar[str] = "Batch whitening onto principal axes"
    aliases: ClassVar[tuple[str, ...]] = ("pca", "pca-whitening")
    equation: ClassVar[str] = "y = gamma W (x - mu_NHW) + beta, W = L^(-1/2) U^T, S = cov_NHW(x) + eps I = U L U^T"
    method: ClassVar[Literal["pca", "zca", "cd"]] = "pca"
