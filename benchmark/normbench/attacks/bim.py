"""Basic iterative method."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from normbench.attacks._gradient import GradientAttack, Steps, StepSize, default_step
from normbench.attacks.base import Sizes, Threat


class BasicIterative(GradientAttack):
    """x_{t+1} = clip_{[0, 1]}(x_0 + clip_{[-eps, eps]}(x_t + step_size * sign(grad_x CE(f(x_t), y)) - x_0)), no random
    start.

    Source: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", 2017, equation 2.
    """

    name: ClassVar[str] = "bim"
    summary: ClassVar[str] = "basic iterative method, L-infinity, white box"
    aliases: ClassVar[tuple[str, ...]] = ("bim-linf", "i-fgsm", "basic-iterative-method")
    source: ClassVar[str] = "Kurakin et al., ICLR workshop 2017, eq. 2"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    steps: Steps = 20
    step_size: StepSize = None
    """In pixel space; None: 2.5 eps / steps, which can cross the ball (Madry et al. 2018)."""
    loss: Literal["ce", "dlr"] = "ce"
    """`ce`: cross-entropy; `dlr`: difference of logits ratio, blind to the scale of logits (Croce and Hein 2020)."""

    def plan(self, size: float) -> tuple[int, float]:
        return self.steps, default_step(size, self.steps) if self.step_size is None else self.step_size

    def foolbox(self, size: float) -> Any:
        import foolbox

        return foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=self.plan(size)[1], steps=self.steps)
