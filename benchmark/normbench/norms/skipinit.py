"""SkipInit: no normalization, and a scalar that starts each residual branch at zero.

Equation: `y = alpha (gamma x + beta)` where a residual branch ends, alpha a learned scalar that starts at 0; `y = gamma
x + beta` elsewhere. Gammas that start at zero at the end of a branch start at one here, so that alpha alone holds the
branch back. The ends are found by running an example through the network: a norm whose output is added to a shorter
path.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Source: De and Smith, Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks, NeurIPS
2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Family, Site

if TYPE_CHECKING:
    from torch import nn


class SkipInit(ActivationNorm):
    name: ClassVar[str] = "skipinit"
    summary: ClassVar[str] = "No normalization; residual branches start at zero by a scalar"
    source: ClassVar[str] = "De and Smith 2020, arXiv:2002.10444"
    equation: ClassVar[str] = "y = alpha (gamma x + beta), alpha = 0 at the start, at the end of each residual branch"
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
    own_branch_start: ClassVar[bool] = True

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.base import Affine
        from normbench.norms.layers.elementwise import SkipInit as Layer

        return (
            Layer(site.channels, affine=site.affine) if site.ends_branch else Affine(site.channels, affine=site.affine)
        )
