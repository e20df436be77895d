"""Fast gradient method in an L2 ball."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.fgsm import FastGradient


class FastGradientL2(FastGradient):
    """One step along the gradient, of L2 norm eps."""

    name: ClassVar[str] = "fgsm-l2"
    summary: ClassVar[str] = "fast gradient method: one step, L2, white box"
    source: ClassVar[str] = "Goodfellow et al., ICLR 2015; L2 as in foolbox"
    threat: ClassVar[Threat] = "l2"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space; 0.5 is RobustBench's for CIFAR-10."""

    def foolbox(self, size: float) -> Any:
        import foolbox

        attack = foolbox.attacks.L2FastGradientAttack()
        attack.abs_stepsize = self.plan(size)[1]
        return attack
