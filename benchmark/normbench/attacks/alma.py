"""Augmented Lagrangian method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._advlib import AdversarialLibraryAttack
from normbench.attacks.base import Radii, Threat
from normbench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The difference of logits ratio compares with the third largest logit.
FEWEST_CLASSES = 3


class AugmentedLagrangian(AdversarialLibraryAttack):
    """Minimises the distance under the constraint that the difference of logits ratio is negative, by an augmented
    Lagrangian whose multipliers are learned for each image: blind to the scale of the logits.

    Source: Rony et al., "Augmented Lagrangian adversarial attacks", 2021, algorithm 1.
    """

    name: ClassVar[str] = "alma"
    summary: ClassVar[str] = "augmented Lagrangian, minimal L2, white box (needs normbench[advlib])"
    aliases: ClassVar[tuple[str, ...]] = ("alma-l2", "augmented-lagrangian")
    source: ClassVar[str] = "Rony et al., ICCV 2021, algorithm 1"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"
    function: ClassVar[str] = "alma"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 200
    step_size: Annotated[float, Field(gt=0, le=10)] = 0.1
    """The first one; it falls to a hundredth from the step on that fools."""

    def arguments(self) -> Mapping[str, Any]:
        return {"num_steps": self.steps, "lr_init": self.step_size, "distance": "l2"}

    def search(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, **starts: torch.Tensor
    ) -> torch.Tensor:
        import torch

        with torch.no_grad():
            classes = model(images[:1]).shape[1]
        if classes < FEWEST_CLASSES:
            raise BenchError(
                f"alma needs at least {FEWEST_CLASSES} classes (difference of logits ratio), found {classes}; use "
                "ddn-advlib or fmn-l2"
            )
        return super().search(model, images, labels, **starts)
