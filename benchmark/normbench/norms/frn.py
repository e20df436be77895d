"""Filter response normalization with a thresholded linear unit.

Equation: `y = gamma x / sqrt(mean_HW x^2 + eps) + beta`, and `max(y, tau)` with a learned tau of each channel in place
of the activation that follows. Where none follows, there is no threshold.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`. `tau` likewise, starting at 0 (a ReLU).

One position: the output is the sign of the input, up to eps.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps); the input may not be
shifted.

Source: Singh and Krishnan, Filter Response Normalization Layer, CVPR 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class FilterResponseNorm(ActivationNorm):
    name: ClassVar[str] = "frn"
    summary: ClassVar[str] = "Filter response normalization with thresholded linear unit"
    aliases: ClassVar[tuple[str, ...]] = ("filter-response-norm",)
    source: ClassVar[str] = "Singh and Krishnan 2020, arXiv:1911.09737"
    equation: ClassVar[str] = "y = max(gamma x / sqrt(mean_HW(x^2) + eps) + beta, tau)"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=False,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="instance",
        constraints="n*d",
    )
    own_activation: ClassVar[bool] = True

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.sample import FilterResponseNorm as Layer

        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine, tlu=site.activated)
