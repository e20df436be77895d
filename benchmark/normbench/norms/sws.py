"""Scaled weight standardization, of normalizer-free networks.

Equation: `w_i = gain_i gamma (v_i - mean(v_i)) / sqrt(n var(v_i) + eps)` of each row with n values, gain learned,
starting at 1; gamma undoes what the activation does to the variance (1.7139588594446636 for ReLU). Unlike `ws` it keeps
the variance of the activations by itself.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: each row of v may be rescaled by its own positive factor (up to eps).

Source: Brock, De and Smith, Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets,
ICLR 2021. The networks around it (scaled residual branches) are timm's `nf_*` and `nfnet_*`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import Claims, Family, WeightNorm
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class ScaledWeightStandardization(WeightNorm):
    name: ClassVar[str] = "sws"
    summary: ClassVar[str] = "Weight standardization that keeps the variance of activations"
    aliases: ClassVar[tuple[str, ...]] = ("scaled-weight-standardization", "scaled-ws")
    source: ClassVar[str] = "Brock, De and Smith 2021, arXiv:2101.08692"
    equation: ClassVar[str] = "w_i = gain_i gamma (v_i - mean v_i) / sqrt(n var v_i + eps)"
    family: ClassVar[Family] = "weight"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=False,
        input_shift=False,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="row",
        constraints="2*d",
    )

    gamma: Annotated[float, Number, Field(gt=0)] = 1.7139588594446636
    eps: Annotated[float, Number, Field(gt=0, lt=1)] = 1e-6

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.weights import ScaledStandardized, register

        register(module, ScaledStandardized(module.weight, gamma=self.gamma, eps=self.eps))
