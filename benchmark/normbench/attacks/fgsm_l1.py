"""Fast gradient method in an L1 ball."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.fgsm import FastGradient


class FastGradientL1(FastGradient):
    """One step along the gradient, of L1 norm eps."""

    name: ClassVar[str] = "fgsm-l1"
    summary: ClassVar[str] = "fast gradient method: one step, L1, white box"
    source: ClassVar[str] = "Goodfellow et al., ICLR 2015; L1 as in foolbox"
    threat: ClassVar[Threat] = "l1"

    eps: Radii = (3.0, 6.0, 12.0)
    """Radii of the L1 ball in pixel space; 12 is common for CIFAR-10 (Tramèr and Boneh 2019)."""

    def foolbox(self, size: float) -> Any:
        import foolbox

        attack = foolbox.attacks.L1FastGradientAttack()
        attack.abs_stepsize = self.plan(size)[1]
        return attack
