"""Projected gradient descent."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from normbench.attacks._gradient import GradientAttack, Steps, StepSize, default_step
from normbench.attacks.base import Sizes, Threat


class ProjectedGradient(GradientAttack):
    """BIM from a random point of the ball; images that stand are attacked again from another one, `restarts` times in
    all.

    Source: Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to adversarial attacks",
    2018, section 2.1.
    """

    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "projected gradient descent, L-infinity, white box"
    aliases: ClassVar[tuple[str, ...]] = ("pgd-linf", "projected-gradient-descent")
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 2.1"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    steps: Steps = 20
    step_size: StepSize = None
    """In pixel space; None: 2.5 eps / steps, which can cross the ball (Madry et al. 2018)."""
    loss: Literal["ce", "dlr"] = "ce"
    """`ce`: cross-entropy; `dlr`: difference of logits ratio, blind to the scale of logits (Croce and Hein 2020)."""
    restarts: Annotated[int, Field(ge=1, le=1000)] = 1
    random_start: bool = True

    @property
    def attempts(self) -> int:
        return self.restarts

    def plan(self, size: float) -> tuple[int, float]:
        return self.steps, default_step(size, self.steps) if self.step_size is None else self.step_size

    def foolbox(self, size: float) -> Any:
        import foolbox

        return foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=self.plan(size)[1], steps=self.steps)
