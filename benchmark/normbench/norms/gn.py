"""Group normalization.

Equation: as layer normalization, but over the positions and the C/G channels of each of G groups.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Groups: 32 by default, or, where 32 does not divide the channels or would leave one channel a group (which would be
instance normalization), the largest divisor below that does not: 16 channels get 8 groups, 48 get 24. A number of
groups that is asked for is taken as it is and must divide.

Invariances: each block of C/G rows of the weights before it may be rescaled by its own factor (up to eps). Sun et al.
(AAAI 2020, Lemma 3) state it for each row, which holds only for G = C.

Source: Wu and He, Group Normalization, ECCV 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms._groups import DEFAULT_GROUPS, default_groups
from normbench.norms.base import ActivationNorm, Claims, Eps, Family, NormSiteError, Site

if TYPE_CHECKING:
    from torch import nn


def checked_groups(groups: int | None, site: Site, at_most: int = DEFAULT_GROUPS) -> int:
    """The number of groups at `site`. Raises `NormSiteError` where the number asked for does not divide the
    channels.
    """
    if groups is None:
        return default_groups(site.channels, at_most)
    if site.channels % groups:
        near = max(g for g in range(1, groups) if site.channels % g == 0)
        raise NormSiteError(
            f"{site.name}: {groups} groups do not divide {site.channels} channels; the nearest number that does "
            f"is {near}"
        )
    return groups


class GroupNorm(ActivationNorm):
    name: ClassVar[str] = "gn"
    summary: ClassVar[str] = "Group normalization: each example over positions and groups of channels"
    aliases: ClassVar[tuple[str, ...]] = ("groupnorm",)
    source: ClassVar[str] = "Wu and He 2018, arXiv:1803.08494"
    equation: ClassVar[str] = "y = gamma (x - mu_gHW) / sqrt(var_gHW + eps) + beta, g = C/G channels"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="block",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="group",
        constraints="2*n*g",
    )

    groups: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from torch import nn

        return nn.GroupNorm(
            checked_groups(self.groups, site), site.channels, eps=self.eps or site.eps, affine=site.affine
        )
