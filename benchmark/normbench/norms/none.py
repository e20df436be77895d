"""No normalization: a scale and a shift of each channel.

Equation: `y = gamma x + beta`. An identity would lose the bias of the convolution (which networks with norms leave to
the norm) and the residual branches that start at gamma = 0.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Source: the control of every comparison. Where timm starts the last gamma of each residual branch at zero (its ResNets
do), this is SkipInit with a scale a channel; see `skipinit` for the scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Family, Site

if TYPE_CHECKING:
    from torch import nn


class NoNorm(ActivationNorm):
    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "No normalization: a scale and a shift of each channel"
    aliases: ClassVar[tuple[str, ...]] = ("identity", "no-norm", "no-normalization")
    source: ClassVar[str] = "control"
    equation: ClassVar[str] = "y = gamma x + beta"
    family: ClassVar[Family] = "no statistics"
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

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.base import Affine

        return Affine(site.channels, affine=site.affine)
