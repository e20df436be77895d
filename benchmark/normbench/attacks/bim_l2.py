"""Basic iterative method in an L2 ball."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.bim import BasicIterative


class BasicIterativeL2(BasicIterative):
    """BIM with the gradient at L2 norm 1 in place of its sign."""

    name: ClassVar[str] = "bim-l2"
    summary: ClassVar[str] = "basic iterative method, L2, white box"
    source: ClassVar[str] = "Kurakin et al., ICLR workshop 2017; L2: Madry et al., ICLR 2018"
    threat: ClassVar[Threat] = "l2"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space; 0.5 is RobustBench's for CIFAR-10."""

    def foolbox(self, size: float) -> Any:
        import foolbox

        return foolbox.attacks.L2BasicIterativeAttack(abs_stepsize=self.plan(size)[1], steps=self.steps)
