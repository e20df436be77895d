"""Dynamic tanh.

Equation: `y = gamma tanh(alpha x) + beta`, alpha a learned scalar of the layer.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Source: Zhu, Chen, He, LeCun and Liu, Transformers without Normalization, CVPR 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Family, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class DynamicTanh(ActivationNorm):
    name: ClassVar[str] = "dyt"
    summary: ClassVar[str] = "Dynamic tanh: a bounded function of each value"
    aliases: ClassVar[tuple[str, ...]] = ("dynamic-tanh",)
    source: ClassVar[str] = "Zhu et al. 2025, arXiv:2503.10622"
    equation: ClassVar[str] = "y = gamma tanh(alpha x) + beta"
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

    alpha: Annotated[float, Number, Field(gt=0)] = 0.5

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.elementwise import DynamicTanh as Layer

        return Layer(site.channels, alpha=self.alpha, affine=site.affine)
