"""Projected gradient descent in an L2 ball."""

from __future__ import annotations

from typing import Any, ClassVar

from normbench.attacks.base import Radii, Threat
from normbench.attacks.pgd import ProjectedGradient


class ProjectedGradientL2(ProjectedGradient):
    """PGD with the gradient at L2 norm 1 in place of its sign."""

    name: ClassVar[str] = "pgd-l2"
    summary: ClassVar[str] = "projected gradient descent, L2, white box"
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 2.1"
    threat: ClassVar[Threat] = "l2"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space; 0.5 is RobustBench's for CIFAR-10."""

    def foolbox(self, size: float) -> Any:
        import foolbox

        return foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=self.plan(size)[1], steps=self.steps)
