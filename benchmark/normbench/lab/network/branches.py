"""Methods that need the residual branches of a network."""

from __future__ import annotations

from torch import nn

from normbench.lab.network.flow import Flow
from normbench.norms import ActivationNorm, NormModifier
from normbench.norms._branches import WholeNetwork, needs_branches
from normbench.tensors.layers import WEIGHTED


def without_branches(model: nn.Module, flow: Flow, activation: ActivationNorm, modifier: NormModifier | None) -> str:
    """Why a method that needs residual branches is impossible in a network; empty where it is possible."""
    needing = needs_branches(activation, modifier)
    if needing is None or flow.branches:
        return ""
    return f"{needing.name}: no residual branch of {type(model).__name__} ends in a normalization layer"


def rebuild(model: nn.Module, method: WholeNetwork, flow: Flow) -> None:
    """Let `method` change the convolutions and linear layers of a network, in place."""
    branches = [branch for branch in flow.branches.values() if branch.layers]
    method.rebuild(
        {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)},  # type: ignore[misc]
        branches=[branch.layers for branch in branches],
        shortcuts=[name for branch in branches for name in branch.shortcut],
        head=flow.head,
    )
