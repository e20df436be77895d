"""Contracts of methods that know the residual branches of a network, and which of a trial's methods need them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Norm, NormModifier

if TYPE_CHECKING:
    from torch import nn


class BranchModifier(NormModifier):
    """Changes the last norm of each residual branch, and no other. Gammas that start at zero there start at one, since
    the method holds the branch back by itself.
    """


class WholeNetwork(ActivationNorm):
    """Changes more of a network than its norms.

    A module may have an attribute `rate_shares`, a mapping from names of its own parameters to the share of the
    learning rate that they are trained with.
    """

    own_branch_start: ClassVar[bool] = True

    @abstractmethod
    def rebuild(
        self,
        layers: Mapping[str, nn.Conv2d | nn.Linear],
        *,
        branches: Sequence[Sequence[str]],
        shortcuts: Sequence[str],
        head: str,
    ) -> None:
        """Change convolutions and linear layers in place, after the layers for the places of the norms were built.

        layers: all of them, by name. branches: the names of those in each residual branch, in the order in which they
        are run. shortcuts: those on the way around a branch. head: the one that makes the logits; empty where another
        layer does.
        """


def needs_branches(activation: ActivationNorm, modifier: NormModifier | None) -> Norm | None:
    """The method that is not defined for a network without residual branches that end in a norm, if there is one."""
    if activation.own_branch_start:
        return activation
    return modifier if isinstance(modifier, BranchModifier) else None
