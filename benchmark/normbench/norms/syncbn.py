"""Synchronized batch normalization.

Equation: as batch normalization, with the statistics of the batches of all ranks of a distributed run together. In one
process it is batch normalization.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean`, `running_var` are `(C,)`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Source: Peng et al., MegDet: A Large Mini-Batch Object Detector, CVPR 2018; the layer is torch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class SyncBatchNorm(ActivationNorm):
    name: ClassVar[str] = "syncbn"
    summary: ClassVar[str] = "Batch normalization over all ranks of a distributed run"
    aliases: ClassVar[tuple[str, ...]] = ("sync-batchnorm", "synchronized-batchnorm")
    source: ClassVar[str] = "Peng et al. 2018, arXiv:1711.07240"
    equation: ClassVar[str] = "y = gamma (x - mu_NHW) / sqrt(var_NHW + eps) + beta, N over all ranks"
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
        from torch import nn

        return nn.SyncBatchNorm(
            site.channels, eps=self.eps or site.eps, momentum=self.momentum or site.momentum, affine=site.affine
        )
