"""Batch normalization.

Equation: `y = gamma (x - mu) / sqrt(var + eps) + beta`, with `mu` and the biased `var` of each channel over batch and
positions; in eval mode the running mean and the running unbiased variance stand in for them, `running <- (1 - momentum)
running + momentum batch`.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean`, `running_var` are `(C,)`.

Invariances: each row of the weights before it may be rescaled by its own positive factor (up to eps).

Source: Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift,
ICML 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class BatchNorm(ActivationNorm):
    name: ClassVar[str] = "bn"
    summary: ClassVar[str] = "Batch normalization: each channel over batch and positions"
    aliases: ClassVar[tuple[str, ...]] = ("batchnorm",)
    source: ClassVar[str] = "Ioffe and Szegedy 2015, arXiv:1502.03167"
    equation: ClassVar[str] = "y = gamma (x - mu_NHW) / sqrt(var_NHW + eps) + beta"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="channel",
        constraints="2*d",
        errors=("one value",),
    )

    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.batch import BatchNorm as Layer

        return Layer(
            site.channels, eps=self.eps or site.eps, momentum=self.momentum or site.momentum, affine=site.affine
        )
