"""EvoNorm B0: normalization and activation in one expression, with batch statistics.

Equation: `y = gamma x / max(sqrt(var_NHW + eps), v x + sqrt(var_HW + eps)) + beta`, v learned for each channel; in eval
mode the running unbiased variance stands in for `var_NHW`. It takes the place of the activation that follows; where
none does, `y = gamma x / sqrt(var_NHW + eps) + beta`.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `v` and the running statistics are `(C,)`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps); the input may not be
shifted.

Departure: where no activation follows, the published pseudocode and timm give `gamma x + beta` and normalize nothing.
Here the same statistics divide there too, so that every place of a network that had a norm still has one; with both
kinds of place in one network (a residual network with an activation behind each sum) the two differ.

Source: Liu, Brock, Simonyan and Le, Evolving Normalization-Activation Layers, NeurIPS 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class EvoNormB0(ActivationNorm):
    name: ClassVar[str] = "evonorm-b0"
    summary: ClassVar[str] = "EvoNorm B0: normalization and activation in one, batch statistics"
    aliases: ClassVar[tuple[str, ...]] = ("evonorm",)
    source: ClassVar[str] = "Liu et al. 2020, arXiv:2004.02967"
    equation: ClassVar[str] = (
        "y = gamma x / max(sqrt(var_NHW + eps), v x + sqrt(var_HW + eps)) + beta; where no activation follows, "
        "y = gamma x / sqrt(var_NHW + eps) + beta (published: gamma x + beta)"
    )
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=False,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="d",
        errors=("one value",),
    )
    own_activation: ClassVar[bool] = True

    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.evonorm import EvoNormB0 as Layer

        return Layer(
            site.channels,
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
            activated=site.activated,
        )
