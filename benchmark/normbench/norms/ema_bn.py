"""Batch normalization by running statistics in training (momentum batch normalization).

Equation: `y = gamma (x - mu_t) / sqrt(var_t + eps) + beta`, `mu_t = (1 - momentum) mu_(t-1) + momentum mu_NHW` and the
same of the unbiased variance. Training and eval mode so divide by the same numbers. The gradient goes through the share
that this batch has in them; what was before is a constant.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean` and `running_var` are `(C,)`.

Invariances: none. The output follows the scale of the weights until the running statistics have caught up.

Departure: Yong et al. start as batch normalization, lower the momentum over the training by a schedule that depends on
the batch size, and keep other statistics for eval mode. Here the momentum is that of the layer that is replaced, from
the first step on. Hybrid batch normalization (Chen et al. 2025, arXiv:2505.21877) learns the share of the batch.

Source: Yong, Huang, Meng, Hua and Zhang, Momentum Batch Normalization for Deep Learning with Small Batch Size, ECCV
2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class EmaBatchNorm(ActivationNorm):
    name: ClassVar[str] = "ema-bn"
    summary: ClassVar[str] = "Batch normalization by running statistics, in training too"
    aliases: ClassVar[tuple[str, ...]] = (
        "momentum-bn",
        "mbn",
    )
    source: ClassVar[str] = "Yong et al. 2020, doi:10.1007/978-3-030-58610-2_14"
    equation: ClassVar[str] = (
        "y = gamma (x - mu_t) / sqrt(var_t + eps) + beta, mu_t = (1 - m) mu_(t-1) + m mu_NHW, var_t likewise"
    )
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
        constraints="0",
    )

    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.blended import EmaBatchNorm as Layer

        return Layer(
            site.channels, eps=self.eps or site.eps, momentum=self.momentum or site.momentum, affine=site.affine
        )
