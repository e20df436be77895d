"""Batch-instance normalization.

Equation: `y = gamma (rho x_BN + (1 - rho) x_IN) + beta`, x_BN and x_IN as normalized by batch and by instance
normalization, rho of each channel learned between 0 and 1. It starts at 1, batch normalization. What a step of the
optimizer takes beyond the bounds is put back before the next forward pass.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `gate` (rho), `running_mean` and `running_var` are `(C,)`.

One position: there the layer is batch normalization.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Departure: the published code learns rho with ten times the rate of the other parameters; here with the same.

Source: Nam and Kim, Batch-Instance Normalization for Adaptively Style-Invariant Neural Networks, NeurIPS 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class BatchInstanceNorm(ActivationNorm):
    name: ClassVar[str] = "bin"
    summary: ClassVar[str] = "Batch and instance normalization, mixed by a learned share of each channel"
    aliases: ClassVar[tuple[str, ...]] = ("batch-instance-norm",)
    source: ClassVar[str] = "Nam and Kim 2018, arXiv:1805.07925"
    equation: ClassVar[str] = "y = gamma (rho x_BN + (1 - rho) x_IN) + beta, 0 <= rho <= 1"
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

    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.blended import BatchInstanceNorm as Layer

        return Layer(
            site.channels, eps=self.eps or site.eps, momentum=self.momentum or site.momentum, affine=site.affine
        )
