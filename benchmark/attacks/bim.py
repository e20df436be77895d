"""Basic iterative method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from benchmark.attacks.base import Attack, Sizes
from benchmark.plugins import Number

if TYPE_CHECKING:
    import torch
    from torch import nn


class BasicIterative(Attack):
    """x_{t+1} = clip_{[0, 1]}(x_0 + clip_{[-eps, eps]}(x_t + step * sign(grad_x CE(f(x_t), y)) - x_0)), no random start.

    Source: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", 2017, equation 2.
    """

    name: ClassVar[str] = "bim"
    summary: ClassVar[str] = "basic iterative method, L-infinity, white box"
    source: ClassVar[str] = "Kurakin et al., ICLR workshop 2017, eq. 2"
    threat: ClassVar[Literal["linf", "l2", "l1", "noise"]] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 20
    step_size: Annotated[float, Number, Field(gt=0, le=1)] | None = None
    """In pixel space; None: 2.5 eps / steps, which can cross the ball (Madry et al. 2018)."""

    def perturb(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: float, generators: list[torch.Generator]) -> torch.Tensor:  # noqa: ARG002
        import foolbox

        step = self.step_size if self.step_size is not None else 2.5 * size / self.steps
        attack = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=step, steps=self.steps, random_start=False)
        attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        _, clipped, _ = attack(attacked, images, labels, epsilons=size)
        return clipped
