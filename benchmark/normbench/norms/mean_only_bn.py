"""Mean-only batch normalization.

Equation: `y = gamma (x - mu) + beta`, mu of each channel over batch and positions; in eval mode the running mean stands
in. With weight normalization, `wn+mean-only-bn`, the length of the rows holds the scale.

Shapes: `(N, C, *)` to the same; `weight`, `bias` and `running_mean` are `(C,)`.

Invariances: the input may be shifted; nothing may be rescaled.

Departure: the source has no gamma, which the lengths of weight normalization make redundant. It is kept here so that
branches that start at zero still do.

Source: Salimans and Kingma, Weight Normalization, NeurIPS 2016, section 4. Its data-dependent initialization is not
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class MeanOnlyBatchNorm(ActivationNorm):
    name: ClassVar[str] = "mean-only-bn"
    summary: ClassVar[str] = "Batch normalization of the mean, without division"
    aliases: ClassVar[tuple[str, ...]] = ("mean-only-batchnorm",)
    source: ClassVar[str] = "Salimans and Kingma 2016, arXiv:1602.07868"
    equation: ClassVar[str] = "y = gamma (x - mu_NHW) + beta"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="none",
        input_scale=False,
        input_shift=True,
        exact=None,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="d",
        errors=("one value",),
    )

    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.blended import MeanOnlyBatchNorm as Layer

        return Layer(site.channels, eps=site.eps, momentum=self.momentum or site.momentum, affine=site.affine)
