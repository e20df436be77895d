"""Dynamic erf.

Equation: `y = gamma erf(alpha x + s) + beta`, alpha and s learned scalars of the layer.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Source: Chen, Lu, Zhu, Sun and Liu, Stronger Normalization-Free Transformers, 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Family, Site
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class DynamicErf(ActivationNorm):
    name: ClassVar[str] = "derf"
    summary: ClassVar[str] = "Dynamic erf: a bounded function of each value"
    aliases: ClassVar[tuple[str, ...]] = ("dynamic-erf",)
    source: ClassVar[str] = "Chen et al. 2025, arXiv:2512.10938"
    equation: ClassVar[str] = "y = gamma erf(alpha x + s) + beta"
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
        from normbench.norms.layers.elementwise import DynamicErf as Layer

        return Layer(site.channels, alpha=self.alpha, affine=site.affine)
