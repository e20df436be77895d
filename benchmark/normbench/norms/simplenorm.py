"""SimpleNorm.

Equation: `y = gamma x / sqrt(var_C + eps) + beta` at each position of each example, `var_C` the unbiased variance of
its channels: the deviation divides, and the mean stays.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`. One channel has no variance and is an error.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps); the input may not be shifted.

Departure: timm's layer has no beta, which is kept here so that the shift of the layer that is replaced is not lost. Its
eps is 1e-6; here it is that of the layer that is replaced.

Source: timm's `SimpleNorm`, the norm of some of its ConvNeXt; no paper describes it. The "SimpleNorm" of a paper of
2026 on language models is a root mean square norm behind each linear map, which is `rms` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, NormSiteError, Site

if TYPE_CHECKING:
    from torch import nn


class SimpleNorm(ActivationNorm):
    name: ClassVar[str] = "simplenorm"
    summary: ClassVar[str] = "Deviation of the channels of each position, without centring"
    aliases: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "timm, layers/norm.py"
    equation: ClassVar[str] = "y = gamma x / sqrt(var_C + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=False,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="none",
        constraints="n*p",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.rescaled import SimpleNorm as Layer

        if site.channels < 2:
            raise NormSiteError(f"{site.name}: one channel has no variance; simplenorm needs two")
        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine)
