"""Group whitening.

Equation: `y = gamma W (x - mu) + beta` for each example, x seen as G rows (groups of channels) of C/G*H*W values, mu
their means, `W = (cov + eps I)^(-1/2)` of the G rows.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Groups: 16 by default, or the largest divisor below that leaves two channels a group. A number that is asked for must
divide.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps): the groups are mixed.

Source: Huang, Zhou, Liu, Shao, Group Whitening: Balancing Learning Efficiency and Representational Capacity, CVPR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site
from normbench.norms.gn import checked_groups

if TYPE_CHECKING:
    from torch import nn


class GroupWhitening(ActivationNorm):
    name: ClassVar[str] = "gw"
    summary: ClassVar[str] = "Whitening of the groups of channels of each example"
    aliases: ClassVar[tuple[str, ...]] = ("group-whitening",)
    source: ClassVar[str] = "Huang et al. 2021, arXiv:2009.13333"
    equation: ClassVar[str] = "y = gamma W (x - mu_gHW) + beta, W = (cov_gHW + eps I)^(-1/2) over G groups"
    family: ClassVar[Family] = "whitening"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="group",
        constraints="n*g*(g+3)/2",
    )

    groups: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.whitening import GroupWhitening as Layer

        return Layer(
            site.channels,
            groups=checked_groups(self.groups, site, at_most=16),
            eps=self.eps or site.eps,
            affine=site.affine,
        )
