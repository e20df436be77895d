"""Fast minimum norm in L-infinity."""

from __future__ import annotations

from typing import ClassVar

from normbench.attacks.base import Sizes, Threat
from normbench.attacks.fmn_l2 import FastMinimumNormL2


class FastMinimumNormLinf(FastMinimumNormL2):
    """Fast minimum norm with distances in L-infinity."""

    name: ClassVar[str] = "fmn-linf"
    summary: ClassVar[str] = "fast minimum norm, minimal L-infinity, white box (needs normbench[advlib])"
    threat: ClassVar[Threat] = "linf"
    order: ClassVar[float] = float("inf")

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space at which the distances are scored."""
