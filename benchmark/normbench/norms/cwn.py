"""Centred weight normalization.

Equation: `w_i = g_i (v_i - mean(v_i)) / ||v_i - mean(v_i)||` of each row, g learned; the weight starts as it was,
centred.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: each row of v may be rescaled by its own positive factor, exactly.

Source: Huang, Liu, Liu, Lang and Tao, Centered Weight Normalization in Accelerating Training of Deep Neural Networks,
ICCV 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import Claims, Family, WeightNorm

if TYPE_CHECKING:
    from torch import nn


class CentredWeightNorm(WeightNorm):
    name: ClassVar[str] = "cwn"
    summary: ClassVar[str] = "Weight normalization of centred rows"
    aliases: ClassVar[tuple[str, ...]] = ("centred-weightnorm", "centered-weightnorm")
    source: ClassVar[str] = "Huang et al. 2017, ICCV"
    equation: ClassVar[str] = "w_i = g_i (v_i - mean v_i) / ||v_i - mean v_i||"
    family: ClassVar[Family] = "weight"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=False,
        input_shift=False,
        exact=True,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="row",
        constraints="2*d",
    )

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.weights import CentredNormalized, register

        register(module, CentredNormalized(module.weight))
