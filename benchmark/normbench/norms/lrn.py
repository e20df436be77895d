"""Local response normalization.

Equation: `y = gamma x_c / (k + alpha sum_j x_j^2)^b + beta`, the sum over the `size` channels around c at the same
position, c included; where there are fewer, at the first and last channels, over those.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Invariances: none. With the constants of the source the divisor hardly moves: it is 1.68 for small values, 1.75 where
all are 5. The scale of the signal is not held, and the network trains like one without normalization.

Departure: the source has no gamma and beta and puts the layer behind the activation of two layers of AlexNet. torch's
layer divides alpha by `size`; here it is the source's.

Source: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012,
section 3.3, with `size` = 5, `alpha` = 1e-4, `b` = 0.75, `k` = 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Family, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class LocalResponseNorm(ActivationNorm):
    name: ClassVar[str] = "lrn"
    summary: ClassVar[str] = "Local response normalization: by the squares of neighbouring channels"
    aliases: ClassVar[tuple[str, ...]] = ("local-response-norm",)
    source: ClassVar[str] = "Krizhevsky, Sutskever and Hinton 2012"
    equation: ClassVar[str] = "y = gamma x_c / (k + alpha sum_j x_j^2)^b + beta, j of the size channels around c"
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
        constraints="0",
    )

    size: Annotated[int, Field(ge=1)] = 5
    """Channels in a neighbourhood."""
    alpha: Annotated[float, Number, Field(gt=0)] = 1e-4
    b: Annotated[float, Number, Field(gt=0)] = 0.75
    k: Annotated[float, Number, Field(gt=0)] = 2.0

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.rescaled import LocalResponseNorm as Layer

        return Layer(site.channels, size=self.size, alpha=self.alpha, beta=self.b, k=self.k, affine=site.affine)
