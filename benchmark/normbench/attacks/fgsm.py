"""Fast gradient sign method."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks._gradient import GradientAttack, StepSize
from normbench.attacks.base import Sizes, Threat


class FastGradient(GradientAttack):
    """x' = clip_{[0, 1]}(x + eps * sign(grad_x CE(f(x), y))): one step.

    With `random_start` the step begins at a random point of the ball and ends by projection into it (Wong et al. 2020).
    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", 2015, section 4.
    """

    name: ClassVar[str] = "fgsm"
    summary: ClassVar[str] = "fast gradient sign method: one step, L-infinity, white box"
    aliases: ClassVar[tuple[str, ...]] = ("fgsm-linf", "fast-gradient-sign")
    source: ClassVar[str] = "Goodfellow et al., ICLR 2015, section 4"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    step_size: StepSize = None
    """In pixel space; None: eps. Adversarial training with a random start uses 1.25 eps (Wong et al. 2020)."""
    random_start: bool = False

    def plan(self, size: float) -> tuple[int, float]:
        return 1, size if self.step_size is None else self.step_size

    def foolbox(self, size: float) -> Any:
        import foolbox

        attack = foolbox.attacks.LinfFastGradientAttack()
        attack.abs_stepsize = self.plan(size)[1]
        return attack
