"""LayerScale: each channel of a residual branch is multiplied by a learned factor that starts small.

Equation: `y_c = lambda_c f(x)_c` where a residual branch ends, lambda learned, f the norm that it modifies. Norms
elsewhere stay as they are. Gammas that start at zero at the end of a branch start at one here. The ends are found by
running an example through the network: a norm whose output is added to a shorter path.

The source starts lambda at 0.1 in networks of up to 18 blocks, at 1e-5 up to 24, at 1e-6 in deeper ones; the default
is the first. It puts lambda behind branches that begin with a norm and end in a linear layer, where no gamma stands.
Here it stands behind the last norm of a branch: with its gamma there are two factors a channel, of which one starts
small, and that is what departs from a small gamma.

Shapes: `(N, C, *)` to the same; lambda is `(C,)`. Invariances: those of the layer that it modifies.

Source: Touvron, Cord, Sablayrolles, Synnaeve and Jegou, Going Deeper with Image Transformers, ICCV 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms._branches import BranchModifier
from normbench.norms.base import Claims, Family
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class LayerScale(BranchModifier):
    name: ClassVar[str] = "layerscale"
    summary: ClassVar[str] = "Channels of residual branches start small, whatever normalizes them"
    source: ClassVar[str] = "Touvron et al. 2021, arXiv:2103.17239"
    equation: ClassVar[str] = "y_c = lambda_c f(x)_c, lambda = start at the start, at the end of each residual branch"
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

    start: Annotated[float, Number, Field(gt=0, le=1)] = 0.1

    def modify(self, layer: nn.Module) -> nn.Module:
        import torch

        from normbench.norms.layers.branches import Scaled, channels_of

        return Scaled(layer, torch.full((channels_of(layer),), self.start))
