"""Batch renormalization.

Equation: `y = gamma (r (x - mu) / s + d) + beta`, `s = sqrt(var + eps)` over batch and positions, `r = clip(s / s_run,
1/r_max, r_max)`, `d = clip((mu - mu_run) / s_run, -d_max, d_max)`, both constants of the graph. The bounds open from r
= 1, d = 0 (batch normalization) to `r_max`, `d_max` over the first `warmup` steps. In eval mode `(x - mu_run) / s_run`.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean`, `running_std` are `(C,)`.

Invariances: once the bounds are open the output follows the scale of the weights until the running statistics catch up;
but since r and d are constants of the graph, the gradient is orthogonal to each row all the same, and the weights grow
as under batch normalization.

Source: Ioffe, Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models, NeurIPS 2017.
Its schedule opens over tens of thousands of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class BatchRenorm(ActivationNorm):
    name: ClassVar[str] = "batch-renorm"
    summary: ClassVar[str] = "Batch normalization corrected towards running statistics"
    aliases: ClassVar[tuple[str, ...]] = ("batch-renormalization", "brn")
    source: ClassVar[str] = "Ioffe 2017, arXiv:1702.03275"
    equation: ClassVar[str] = "y = gamma (r (x - mu_NHW) / sqrt(var_NHW + eps) + d) + beta"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="none",
        input_scale=False,
        input_shift=False,
        exact=None,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="2*d",
        orthogonal="row",
        true_gradient=False,
        errors=("one value",),
    )

    r_max: Annotated[float, Number, Field(ge=1)] = 3.0
    d_max: Annotated[float, Number, Field(ge=0)] = 5.0
    warmup: Annotated[int, Field(ge=1)] = 1000
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.batch import BatchRenorm as Layer

        return Layer(
            site.channels,
            r_max=self.r_max,
            d_max=self.d_max,
            warmup=self.warmup,
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
