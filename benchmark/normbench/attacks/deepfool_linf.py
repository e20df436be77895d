"""DeepFool in L-infinity."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._minimal import MinimalAttack
from normbench.attacks.base import Sizes, Threat


class DeepFoolLinf(MinimalAttack):
    """DeepFool with distances to the linearised boundaries in L-infinity (Moosavi-Dezfooli et al. 2016, section
    3.3).
    """

    name: ClassVar[str] = "deepfool-linf"
    summary: ClassVar[str] = "DeepFool: nearest linearised boundary, minimal L-infinity, white box"
    source: ClassVar[str] = "Moosavi-Dezfooli et al., CVPR 2016, section 3.3"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Radii of the L-infinity ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 50
    candidates: Annotated[int, Field(ge=2, le=1000)] = 10
    """Classes that are tried, those with the largest logits."""
    overshoot: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share by which a step goes beyond the linearised boundary."""

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.attacks.LinfDeepFoolAttack(
            steps=self.steps, candidates=self.candidates, overshoot=self.overshoot
        )
