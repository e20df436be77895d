"""Switchable normalization.

Equation: `y = gamma (x - sum_k a_k mu_k) / sqrt(sum_k b_k var_k + eps) + beta` over k in instance, layer, batch; a and
b are softmaxes of three learned numbers each. In eval mode running statistics stand in for those of the batch. All
variances are biased, so that 1x1 maps have one.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean`, `running_var` are `(C,)`, `mean_logits` and
`var_logits` `(3,)`.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps).

Source: Luo, Ren, Peng, Zhang and Li, Differentiable Learning-to-Normalize via Switchable Normalization, ICLR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class SwitchNorm(ActivationNorm):
    name: ClassVar[str] = "switchnorm"
    summary: ClassVar[str] = "Instance, layer and batch statistics, mixed by learned weights"
    aliases: ClassVar[tuple[str, ...]] = ("switchable-normalization",)
    source: ClassVar[str] = "Luo et al. 2019, arXiv:1806.10779"
    equation: ClassVar[str] = "y = gamma (x - sum_k a_k mu_k) / sqrt(sum_k b_k var_k + eps) + beta, k in IN, LN, BN"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="2",
    )

    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.sample import SwitchNorm as Layer

        return Layer(
            site.channels, eps=self.eps or site.eps, momentum=self.momentum or site.momentum, affine=site.affine
        )
