"""Momentum iterative method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._gradient import GradientAttack, Steps, StepSize
from normbench.attacks.base import Sizes, Threat

if TYPE_CHECKING:
    import torch


class MomentumIterative(GradientAttack):
    """g_{t+1} = momentum * g_t + grad_x CE(f(x_t), y) / ||.||_1, and x_{t+1} one step along sign(g_{t+1}), from the
    image.

    foolbox sums signs instead of gradients at norm 1; its engine is given the paper's sum here.
    Source: Dong et al., "Boosting adversarial attacks with momentum", 2018, algorithm 1.
    """

    name: ClassVar[str] = "mim"
    summary: ClassVar[str] = "momentum iterative method, L-infinity, white box"
    aliases: ClassVar[tuple[str, ...]] = ("mim-linf", "mi-fgsm", "momentum-iterative-method")
    source: ClassVar[str] = "Dong et al., CVPR 2018, algorithm 1"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"
    momentous: ClassVar[bool] = True

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    steps: Steps = 20
    step_size: StepSize = None
    """In pixel space; None: eps / steps, as in the paper."""
    momentum: Annotated[float, Field(ge=0, le=10)] = 1.0

    def plan(self, size: float) -> tuple[int, float]:
        return self.steps, size / self.steps if self.step_size is None else self.step_size

    def accumulate(self, gradient: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        from normbench.attacks._balls import unit_step

        return self.momentum * velocity + unit_step(gradient, "l1")

    def foolbox(self, size: float) -> Any:
        import foolbox
        from foolbox.attacks.gradient_descent_base import normalize_lp_norms

        name = {"linf": "LinfMomentumIterativeFastGradientMethod", "l2": "L2MomentumIterativeFastGradientMethod"}[
            self.threat
        ]
        attack = getattr(foolbox.attacks, name)(
            momentum=self.momentum, abs_stepsize=self.plan(size)[1], steps=self.steps
        )
        attack.normalize = lambda gradients, **_: normalize_lp_norms(gradients, p=1)
        return attack
