"""Weight standardization.

Equation: `w_i = (v_i - mean(v_i)) / sqrt(var(v_i) + eps)` of each row, var biased. Meant for layers that feed a norm:
the rows have unit variance whatever the fan-in, and nothing else bounds the activations.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: each row of v may be rescaled by its own positive factor (up to eps). eps stands inside the root, 1e-6 as
in timm; other code in use adds 1e-5 to the standard deviation, which for raw weights of standard deviation 1e-4 is a
different function.

Source: Qiao, Wang, Liu, Shen and Yuille, Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import Claims, Family, WeightNorm
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class WeightStandardization(WeightNorm):
    name: ClassVar[str] = "ws"
    summary: ClassVar[str] = "Weight standardization: mean 0 and variance 1 of each row"
    aliases: ClassVar[tuple[str, ...]] = ("weight-standardization",)
    source: ClassVar[str] = "Qiao et al. 2019, arXiv:1903.10520"
    equation: ClassVar[str] = "w_i = (v_i - mean v_i) / sqrt(var v_i + eps)"
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

    eps: Annotated[float, Number, Field(gt=0, lt=1)] = 1e-6

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.weights import Standardized, register

        register(module, Standardized(self.eps))
