"""Instance normalization.

Equation: `y = gamma (x - mu) / sqrt(var + eps) + beta`, with `mu` and the biased `var` of each channel of each example
over its positions.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

One position: a map of 1x1 is its own mean, and normalizing it would leave beta alone. There the layer only applies
gamma and beta (`one_position=pass`), or refuses with an error (`one_position=error`). The audit lists how many
positions each layer sees.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Source: Ulyanov, Vedaldi and Lempitsky, Instance Normalization: The Missing Ingredient for Fast Stylization, 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class InstanceNorm(ActivationNorm):
    name: ClassVar[str] = "in"
    summary: ClassVar[str] = "Instance normalization: each channel of each example over positions"
    aliases: ClassVar[tuple[str, ...]] = ("instancenorm",)
    source: ClassVar[str] = "Ulyanov, Vedaldi and Lempitsky 2016, arXiv:1607.08022"
    equation: ClassVar[str] = "y = gamma (x - mu_HW) / sqrt(var_HW + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="instance",
        constraints="2*n*d",
    )

    eps: Eps = None
    one_position: Literal["pass", "error"] = "pass"

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.instance import InstanceNorm as Layer

        return Layer(
            site.channels, eps=self.eps or site.eps, affine=site.affine, one_position=self.one_position, site=site.name
        )
