"""Batch-channel normalization.

Equation: `y = GN(BN(x))`, batch normalization with its own gamma and beta, then group normalization with its own, per
channel (the authors' second pair is per group).

Shapes: `(N, C, *)` to the same; all parameters and running statistics are `(C,)`. Groups as in `gn`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Source: Qiao, Wang, Liu, Shen and Yuille, Rethinking Normalization and Elimination Singularity in Neural Networks, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site
from normbench.norms.gn import checked_groups

if TYPE_CHECKING:
    from torch import nn


class BatchChannelNorm(ActivationNorm):
    name: ClassVar[str] = "bcn"
    summary: ClassVar[str] = "Batch normalization, then group normalization"
    aliases: ClassVar[tuple[str, ...]] = ("batch-channel-norm",)
    source: ClassVar[str] = "Qiao et al. 2019, arXiv:1911.09738"
    equation: ClassVar[str] = "y = GN(BN(x))"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="group",
        constraints="2*n*g",
        errors=("one value",),
    )

    groups: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.batch import BatchChannelNorm as Layer

        return Layer(
            site.channels,
            groups=checked_groups(self.groups, site),
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
