"""Momentum iterative method in an L2 ball."""

from __future__ import annotations

from typing import ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.mim import MomentumIterative


class MomentumIterativeL2(MomentumIterative):
    """MIM whose steps follow the summed gradient at L2 norm 1 in place of its sign (Dong et al. 2018, equation 10)."""

    name: ClassVar[str] = "mim-l2"
    summary: ClassVar[str] = "momentum iterative method, L2, white box"
    aliases: ClassVar[tuple[str, ...]] = ("mi-fgsm-l2",)
    source: ClassVar[str] = "Dong et al., CVPR 2018, eq. 10"
    threat: ClassVar[Threat] = "l2"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space; 0.5 is RobustBench's for CIFAR-10."""
