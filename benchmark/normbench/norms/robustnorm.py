"""RobustNorm.

Equation: `y = gamma (x - mu) / ((max - min)^p + eps) + beta`, mean, largest and smallest value of each channel over
batch and positions; in eval mode running means of mu and of the range stand in. At p = 0.2 the divisor reacts little to
outliers, and the output keeps most of the input's scale.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean` and `running_range` are `(C,)`.

Invariances: the input may be shifted. A row of the weights that is scaled by a scales the output by a^(1-p).

Departure: the published code divides by the range of the batch at hand in eval mode, too, where it is told so; here a
prediction never depends on the other images.

Source: Awais, Shamshad and Bae, Towards an Adversarially Robust Normalization Approach, 2020, with p = 0.2; eps stands
where the published code has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class RobustNorm(ActivationNorm):
    name: ClassVar[str] = "robustnorm"
    summary: ClassVar[str] = "Batch normalization by a power of the range"
    aliases: ClassVar[tuple[str, ...]] = ("robust-norm",)
    source: ClassVar[str] = "Awais, Shamshad and Bae 2020, arXiv:2006.11007"
    equation: ClassVar[str] = "y = gamma (x - mu_NHW) / ((max_NHW - min_NHW)^p + eps) + beta"
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

    p: Annotated[float, Number, Field(gt=0, le=1)] = 0.2
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.blended import RobustNorm as Layer

        return Layer(
            site.channels,
            power=self.p,
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
