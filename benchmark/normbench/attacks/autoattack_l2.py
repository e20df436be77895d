"""AutoAttack in L2."""

from __future__ import annotations

from typing import ClassVar

from normbench.attacks.autoattack import AutoAttack
from normbench.attacks.base import Radii, Threat


class AutoAttackL2(AutoAttack):
    """AutoAttack with perturbations bounded in L2."""

    name: ClassVar[str] = "autoattack-l2"
    summary: ClassVar[str] = "AutoAttack, L2 (needs the extra normbench[autoattack])"
    aliases: ClassVar[tuple[str, ...]] = ("aa-l2",)
    source: ClassVar[str] = "Croce and Hein, ICML 2020"
    threat: ClassVar[Threat] = "l2"

    eps: Radii = (0.5,)
    """Radii of the L2 ball in pixel space; 0.5 is RobustBench's for CIFAR-10."""
