"""Ghost batch normalization.

Equation: as batch normalization, with the statistics of each chunk of `size` examples; what is left over joins the last
chunk. The running statistics see each chunk in turn.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean`, `running_var` are `(C,)`.

Invariances: each row of the weights before it may be rescaled by its own factor (up to eps).

Source: Hoffer, Hubara and Soudry, Train Longer, Generalize Better, NeurIPS 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class GhostBatchNorm(ActivationNorm):
    name: ClassVar[str] = "ghost-bn"
    summary: ClassVar[str] = "Batch normalization of chunks of the batch"
    aliases: ClassVar[tuple[str, ...]] = ("ghost-batchnorm", "gbn")
    source: ClassVar[str] = "Hoffer, Hubara and Soudry 2017, arXiv:1705.08741"
    equation: ClassVar[str] = "y = gamma (x - mu_nHW) / sqrt(var_nHW + eps) + beta, n examples of a chunk"
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="channel",
        constraints="2*d*g",
        errors=("one value",),
    )

    size: Annotated[int, Field(ge=1)] = 16
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.batch import GhostBatchNorm as Layer

        return Layer(
            site.channels,
            size=self.size,
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
