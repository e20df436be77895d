"""Root mean square normalization.

Equation: `y = gamma x / sqrt(mean_C x^2 + eps) + beta`, the mean over the channels of one position of one example.
Zhang and Sennrich have no beta; it is kept here so that the shift of the layer that is replaced is not lost.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps); the input may not be shifted.

Source: Zhang and Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class RmsNorm(ActivationNorm):
    name: ClassVar[str] = "rms"
    summary: ClassVar[str] = "Root mean square of the channels of each position"
    aliases: ClassVar[tuple[str, ...]] = ("rmsnorm", "root-mean-square-norm")
    source: ClassVar[str] = "Zhang and Sennrich 2019, arXiv:1910.07467"
    equation: ClassVar[str] = "y = gamma x / sqrt(mean_C(x^2) + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=False,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="position",
        constraints="n*p",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.sample import RmsNorm as Layer

        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine)
