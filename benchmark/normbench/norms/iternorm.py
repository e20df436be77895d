"""Iterative normalization: batch whitening by Newton's iteration.

Equation: `y = gamma P_T (x - mu) / sqrt(tr S) + beta`, `S = cov(x) + eps I` of each group of channels, `P_0 = I`, `P <-
(3 P - P^3 S / tr S) / 2`, T times. With more iterations it approaches `bw-zca`; at T = 5 directions of small variance
stay below one. In eval mode running mean and covariance stand in.

Shapes and groups as in `bw-zca`.

Invariances: each group of rows of the weights before it may be rescaled by its own factor (up to eps).

Source: Huang, Zhou, Zhu, Liu and Shao, Iterative Normalization: Beyond Standardization towards Efficient Whitening,
CVPR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site, groups_of

if TYPE_CHECKING:
    from torch import nn


class IterNorm(ActivationNorm):
    name: ClassVar[str] = "iternorm"
    summary: ClassVar[str] = "Batch whitening by Newton iteration"
    aliases: ClassVar[tuple[str, ...]] = ("iterative-normalization",)
    source: ClassVar[str] = "Huang et al. 2019, arXiv:1904.03441"
    equation: ClassVar[str] = "y = gamma P_T (x - mu_NHW) / sqrt(tr S) + beta, P <- (3 P - P^3 S / tr S) / 2"
    family: ClassVar[Family] = "whitening"
    claims: ClassVar[Claims] = Claims(
        weight_scale="block",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="d+g",
        errors=("one value",),
    )

    iterations: Annotated[int, Field(ge=1, le=100)] = 5
    group: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.whitening import BatchWhitening as Layer

        return Layer(
            site.channels,
            method="newton",
            iterations=self.iterations,
            groups=groups_of(self.group, site),
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
