"""ScaleNorm.

Equation: `y = g x / max(||x||, eps) + beta` at each position of each example, `||x||` the Euclidean norm of its
channels and g one learned number of the layer, which starts at sqrt(C).

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`. The mean of `weight` is g / sqrt(C). Its values get the
same gradient and move as one.

Invariances: the weight tensor before it may be rescaled as a whole, exactly; the input may not be shifted.

Departure: the source has no beta, which is kept here so that the shift of the layer that is replaced is not lost. What
is learned is g / sqrt(C), which starts at 1: a step of gradient descent on it moves g by C times as much.

Source: Nguyen and Salazar, Transformers without Tears: Improving the Normalization of Self-Attention, IWSLT 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class ScaleNorm(ActivationNorm):
    name: ClassVar[str] = "scalenorm"
    summary: ClassVar[str] = "Length of the channels of each position, one gain for all"
    aliases: ClassVar[tuple[str, ...]] = ("scale-norm",)
    source: ClassVar[str] = "Nguyen and Salazar 2019, arXiv:1910.05895"
    equation: ClassVar[str] = "y = g x / max(||x||_C, eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=False,
        exact=True,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="position",
        constraints="n*p",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.rescaled import ScaleNorm as Layer

        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine)
