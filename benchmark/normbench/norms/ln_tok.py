"""Layer normalization over the channels of each position, as transformers use it.

Equation: `y = gamma (x - mu) / sqrt(var + eps) + beta`, with `mu` and the biased `var` over the channels of one
position of one example.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps).

Source: Ba, Kiros and Hinton, Layer Normalization, 2016; per position since Vaswani et al., Attention Is All You Need,
2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class TokenLayerNorm(ActivationNorm):
    name: ClassVar[str] = "ln-tok"
    summary: ClassVar[str] = "Layer normalization of transformers: each position over channels"
    aliases: ClassVar[tuple[str, ...]] = ("layernorm",)
    source: ClassVar[str] = "Ba, Kiros and Hinton 2016, arXiv:1607.06450"
    equation: ClassVar[str] = "y = gamma (x - mu_C) / sqrt(var_C + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="position",
        constraints="2*n*p",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.sample import TokenLayerNorm as Layer

        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine)
