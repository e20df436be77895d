"""Weight normalization.

Equation: `w_i = g_i v_i / ||v_i||` of each row, g learned; the weight starts as it was.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: each row of v may be rescaled by its own positive factor, exactly. A row of zeros has no direction and is
left alone.

Source: Salimans and Kingma, Weight Normalization, NeurIPS 2016; the parametrization is torch's. Its data-dependent
initialization is not used, so networks start as with `none`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import Claims, Family, WeightNorm

if TYPE_CHECKING:
    from torch import nn


class WeightNormalization(WeightNorm):
    name: ClassVar[str] = "wn"
    summary: ClassVar[str] = "Weight normalization: direction and length of each row"
    aliases: ClassVar[tuple[str, ...]] = ("weightnorm",)
    source: ClassVar[str] = "Salimans and Kingma 2016, arXiv:1602.07868"
    equation: ClassVar[str] = "w_i = g_i v_i / ||v_i||"
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
        constraints="d",
    )

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from torch.nn.utils.parametrizations import weight_norm

        weight_norm(module, "weight", dim=0)
