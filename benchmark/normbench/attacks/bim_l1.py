"""Basic iterative method in an L1 ball."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.bim import BasicIterative


class BasicIterativeL1(BasicIterative):
    """BIM with the gradient at L1 norm 1 in place of its sign: dense steps, much weaker than `pgd-l1`."""

    name: ClassVar[str] = "bim-l1"
    summary: ClassVar[str] = "basic iterative method, L1 (dense steps: weak), white box"
    source: ClassVar[str] = "Kurakin et al., ICLR workshop 2017; L1 as in foolbox"
    threat: ClassVar[Threat] = "l1"

    eps: Radii = (3.0, 6.0, 12.0)
    """Radii of the L1 ball in pixel space; 12 is common for CIFAR-10 (Tramèr and Boneh 2019)."""

    def foolbox(self, size: float) -> Any:
        import foolbox

        return foolbox.attacks.L1BasicIterativeAttack(abs_stepsize=self.plan(size)[1], steps=self.steps)
