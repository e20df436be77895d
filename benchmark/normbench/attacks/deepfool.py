"""DeepFool in L2."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._minimal import MinimalAttack
from normbench.attacks.base import Radii, Threat


class DeepFool(MinimalAttack):
    """Steps onto the nearest boundary of the linearised network until the image crosses one.

    Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
    2016, algorithm 2.
    """

    name: ClassVar[str] = "deepfool"
    summary: ClassVar[str] = "DeepFool: nearest linearised boundary, minimal L2, white box"
    aliases: ClassVar[tuple[str, ...]] = ("deepfool-l2",)
    source: ClassVar[str] = "Moosavi-Dezfooli et al., CVPR 2016, algorithm 2"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 50
    candidates: Annotated[int, Field(ge=2, le=1000)] = 10
    """Classes that are tried, those with the largest logits."""
    overshoot: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share by which a step goes beyond the linearised boundary."""

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.attacks.L2DeepFoolAttack(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
