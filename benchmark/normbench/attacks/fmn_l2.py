"""Fast minimum norm in L2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._advlib import AdversarialLibraryAttack
from normbench.attacks.base import Radii, Threat


class FastMinimumNormL2(AdversarialLibraryAttack):
    """Follows the gradient of the margin within a ball whose radius shrinks while the image is adversarial and grows
    while it is not.

    Source: Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints", 2021, algorithm 1.
    """

    name: ClassVar[str] = "fmn-l2"
    summary: ClassVar[str] = "fast minimum norm, minimal L2, white box (needs normbench[advlib])"
    aliases: ClassVar[tuple[str, ...]] = ("fmn", "fast-minimum-norm")
    source: ClassVar[str] = "Pintor et al., NeurIPS 2021, algorithm 1"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"
    function: ClassVar[str] = "fmn"
    order: ClassVar[float] = 2

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100
    step_size: Annotated[float, Field(gt=0, le=100)] = 1.0
    """The first one, in L2 and pixel space; it falls to a hundredth."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share by which the radius shrinks or grows at the first step; it falls to 0.001."""

    def arguments(self) -> Mapping[str, Any]:
        return {"norm": self.order, "steps": self.steps, "α_init": self.step_size, "γ_init": self.gamma}
