"""Layer normalization over channels and positions.

Equation: `y = gamma (x - mu) / sqrt(var + eps) + beta`, with `mu` and the biased `var` of each example over channels
and positions together, gamma and beta per channel. This is group normalization with one group, the form used in
convolutional networks. The layer normalization of transformers, over the channels of each position, is `ln-tok`.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps). Sun et al. (AAAI 2020, Lemma 3) state
it for each row; that does not hold: rescaling one row changes the statistics that all channels share.

Source: Ba, Kiros and Hinton, Layer Normalization, 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class LayerNorm(ActivationNorm):
    name: ClassVar[str] = "ln"
    summary: ClassVar[str] = "Layer normalization: each example over channels and positions"
    aliases: ClassVar[tuple[str, ...]] = ("layernorm",)
    source: ClassVar[str] = "Ba, Kiros and Hinton 2016, arXiv:1607.06450"
    equation: ClassVar[str] = "y = gamma (x - mu_CHW) / sqrt(var_CHW + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="sample",
        constraints="2*n",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from torch import nn

        return nn.GroupNorm(1, site.channels, eps=self.eps or site.eps, affine=site.affine)
