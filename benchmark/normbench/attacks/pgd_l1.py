"""Projected gradient descent in an L1 ball."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from normbench.attacks.base import Radii, Threat
from normbench.attacks.pgd import ProjectedGradient

if TYPE_CHECKING:
    import torch


class ProjectedGradientL1(ProjectedGradient):
    """PGD whose steps move the pixels with the largest gradients only, all by the same amount, projected onto the
    nearest point of the ball.

    Dense steps at L1 norm 1 spread over all pixels and hardly move any. foolbox's attack of this kind is not offered:
    its projection enlarges perturbations inside the ball when another image of the batch is outside. Source: Tramèr and
    Boneh, "Adversarial training and robustness for multiple perturbations", 2019, section 2 (sparse L1 descent).
    """

    name: ClassVar[str] = "pgd-l1"
    summary: ClassVar[str] = "projected gradient descent with sparse steps, L1, white box"
    source: ClassVar[str] = "Tramèr and Boneh, NeurIPS 2019"
    threat: ClassVar[Threat] = "l1"

    eps: Radii = (3.0, 6.0, 12.0)
    """Radii of the L1 ball in pixel space; 12 is common for CIFAR-10 (Tramèr and Boneh 2019)."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Of the values of an image that one step moves."""
    engine: Literal["loop"] = "loop"

    def direction(self, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        from normbench.attacks._balls import sparse_step

        return sparse_step(gradient, x, self.share)

    def project(self, x: torch.Tensor, origin: torch.Tensor, size: float) -> torch.Tensor:
        from normbench.attacks._balls import nearest_in_l1

        return nearest_in_l1(x, origin, size)

    def foolbox(self, size: float) -> Any:
        raise NotImplementedError(f"pgd-l1 runs in this package's loop only (size {size:g})")
