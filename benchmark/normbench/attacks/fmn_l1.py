"""Fast minimum norm in L1."""

from __future__ import annotations

from typing import ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.fmn_l2 import FastMinimumNormL2


class FastMinimumNormL1(FastMinimumNormL2):
    """Fast minimum norm with distances in L1."""

    name: ClassVar[str] = "fmn-l1"
    summary: ClassVar[str] = "fast minimum norm, minimal L1, white box (needs normbench[advlib])"
    threat: ClassVar[Threat] = "l1"
    order: ClassVar[float] = 1

    eps: Radii = (4.0, 8.0, 16.0)
    """Radii of the L1 ball in pixel space at which the distances are scored."""
