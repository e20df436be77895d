"""Instance-batch normalization (IBN-a).

Equation: `y = gamma (x - mu) / sqrt(var + eps) + beta`, with the statistics of instance normalization for the first
`ratio` of the channels, of batch normalization for the others. At the end of a residual branch all channels get batch
normalization, as in the source: the sum with the shorter path keeps its content.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`, the running statistics those of the second part.

One position: there the first channels pass, as in `in`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Departure: the source does so at the first norm of the residual blocks, and leaves the last of a network's four stages
to batch normalization. Here it stands at each norm that ends no branch.

Source: Pan, Luo, Shi and Tang, Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, ECCV 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class InstanceBatchNorm(ActivationNorm):
    name: ClassVar[str] = "ibn-a"
    summary: ClassVar[str] = "Instance norm of half of the channels, batch norm of the others"
    aliases: ClassVar[tuple[str, ...]] = ("ibn",)
    source: ClassVar[str] = "Pan et al. 2018, arXiv:1807.09441"
    equation: ClassVar[str] = (
        "y = gamma (x - mu) / sqrt(var + eps) + beta, mu and var over HW for c < ratio C, else over NHW"
    )
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
        constraints="2*n*g+2*(d-g)",
        errors=("one value",),
    )

    ratio: Annotated[float, Number, Field(gt=0, lt=1)] = 0.5
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.blended import InstanceBatchNorm as Layer

        return Layer(
            site.channels,
            instance=0 if site.ends_branch else int(site.channels * self.ratio),
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
