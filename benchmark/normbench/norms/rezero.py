"""ReZero: each residual branch is multiplied by a learned scalar that starts at zero.

Equation: `y = alpha f(x)` where a residual branch ends, alpha a learned scalar that starts at 0, f the norm that it
modifies; so that the block is `x + alpha F(x)`. Norms elsewhere stay as they are. Gammas that start at zero at the end
of a branch start at one here, so that alpha alone holds the branch back. The ends are found by running an example
through the network: a norm whose output is added to a shorter path.

It modifies any activation method: `bn+rezero`, `gn+rezero`. `none+rezero` is `skipinit` to the last bit. The source has
the block without any normalization, for fully connected networks and transformers too; here a branch must end in a
norm, which those of most transformers do not.

Shapes: `(N, C, *)` to the same. Invariances: those of the layer that it modifies.

Source: Bachlechner, Majumder, Mao, Cottrell and McAuley, ReZero is All You Need: Fast Convergence at Large Depth, UAI
2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms._branches import BranchModifier
from normbench.norms.base import Claims, Family

if TYPE_CHECKING:
    from torch import nn


class ReZero(BranchModifier):
    name: ClassVar[str] = "rezero"
    summary: ClassVar[str] = "Residual branches start at zero by a scalar, whatever normalizes them"
    source: ClassVar[str] = "Bachlechner et al. 2020, arXiv:2003.04887"
    equation: ClassVar[str] = "y = alpha f(x), alpha = 0 at the start, at the end of each residual branch"
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

    def modify(self, layer: nn.Module) -> nn.Module:
        import torch

        from normbench.norms.layers.branches import Scaled

        return Scaled(layer, torch.zeros(()))
