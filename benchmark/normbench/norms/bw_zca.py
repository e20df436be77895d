"""Batch whitening as close to the input as possible.

Equation: as in `benchmark/normbench/norms/_whitening.py` with `W = U L^(-1/2) U^T` of `S = U L U^T`. The gradient is
that of the matrix function, finite where eigenvalues coincide (dead channels).

Invariances: each group of rows of the weights before it may be rescaled by its own factor (up to eps).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from normbench.norms._whitening import Whitening


class ZcaWhitening(Whitening):
    name: ClassVar[str] = "bw-zca"
    summary: ClassVar[str] = "Batch whitening as close to the input as possible"
    aliases: ClassVar[tuple[str, ...]] = ("zca", "zca-whitening", "decorrelated-batchnorm", "dbn")
    equation: ClassVar[str] = "y = gamma W (x - mu_NHW) + beta, W = U L^(-1/2) U^T, S = cov_NHW(x) + eps I = U L U^T"
    method: ClassVar[Literal["pca", "zca", "cd"]] = "zca"
