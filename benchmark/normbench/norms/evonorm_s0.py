"""EvoNorm S0: normalization and activation in one expression, with statistics of groups of channels of one example.

Equation: `y = gamma x sigmoid(v x) / sqrt(var_gHW + eps) + beta`, v learned for each channel. It takes the place of the
activation that follows; where none does, `y = gamma x / sqrt(var_gHW + eps) + beta`.

Shapes: `(N, C, *)` to the same; `weight`, `bias` and `v` are `(C,)`. Groups as in `gn`.

Invariances: none where it is an activation, since the sigmoid sees the scale; that is what is claimed and measured
here.

Departure: where no activation follows, the published pseudocode and timm give `gamma x + beta` and normalize nothing.
Here the same statistics divide there too, so that every place of a network that had a norm still has one; with both
kinds of place in one network (a residual network with an activation behind each sum) the two differ.

Source: Liu, Brock, Simonyan and Le, Evolving Normalization-Activation Layers, NeurIPS 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site
from normbench.norms.gn import checked_groups

if TYPE_CHECKING:
    from torch import nn


class EvoNormS0(ActivationNorm):
    name: ClassVar[str] = "evonorm-s0"
    summary: ClassVar[str] = "EvoNorm S0: normalization and activation in one, group statistics"
    aliases: ClassVar[tuple[str, ...]] = ("evonorm",)
    source: ClassVar[str] = "Liu et al. 2020, arXiv:2004.02967"
    equation: ClassVar[str] = (
        "y = gamma x sigmoid(v x) / sqrt(var_gHW + eps) + beta; where no activation follows, "
        "y = gamma x / sqrt(var_gHW + eps) + beta (published: gamma x + beta)"
    )
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="none",
        input_scale=False,
        input_shift=False,
        exact=None,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="none",
        constraints="n*g",
    )
    own_activation: ClassVar[bool] = True

    groups: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.evonorm import EvoNormS0 as Layer

        return Layer(
            site.channels,
            groups=checked_groups(self.groups, site),
            eps=self.eps or site.eps,
            affine=site.affine,
            activated=site.activated,
        )
