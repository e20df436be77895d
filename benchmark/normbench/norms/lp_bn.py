"""Lp batch normalization.

Equation: `y = gamma (x - mu) / s + beta`, `s = (C_p^p mean|x - mu|^p + eps)^(1/p)` of each channel over batch and
positions, with `C_p = (2^(p/2) Gamma((p+1)/2) / sqrt(pi))^(-1/p)`, which makes s the standard deviation of normally
distributed values: C_1 = sqrt(pi/2), C_2 = 1. For p = inf, `s = C_inf max|x - mu| + eps`, `C_inf = (1 + sqrt(pi ln 4))
/ (2 sqrt(2 ln m))` with m values. In eval mode the running mean and the running s stand in.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean` and `running_scale` are `(C,)`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Source: Hoffer, Banner, Golan and Soudry, Norm Matters: Efficient and Accurate Normalization Schemes in Deep Networks,
NeurIPS 2018. They give no constant for p other than 1, 2 and inf; without it the output at p = 3 has a standard
deviation of 0.86. Theirs for inf is kept as it is, though the output of normally distributed values then has 0.70
(0.74 with 32 values).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class LpBatchNorm(ActivationNorm):
    name: ClassVar[str] = "lp-bn"
    summary: ClassVar[str] = "Batch normalization by the Lp norm instead of the variance"
    aliases: ClassVar[tuple[str, ...]] = ("lp-batchnorm", "l1-batchnorm", "l1-bn")
    source: ClassVar[str] = "Hoffer et al. 2018, arXiv:1803.01814"
    equation: ClassVar[str] = "y = gamma (x - mu_NHW) / (C_p^p mean_NHW|x - mu|^p + eps)^(1/p) + beta"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="2*d",
        errors=("one value",),
    )

    p: Annotated[float, Number, Field(ge=1)] | Literal["inf"] = 1.0
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.batch import LpBatchNorm as Layer

        return Layer(
            site.channels,
            p=float(self.p),
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
