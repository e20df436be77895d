"""Decoupled direction and norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._minimal import MinimalAttack
from normbench.attacks.base import Radii, Threat


class DecoupledDirectionNorm(MinimalAttack):
    """Follows the gradient on a sphere whose radius shrinks while the image is adversarial and grows while it is not.

    Source: Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", 2019, algorithm 1.
    """

    name: ClassVar[str] = "ddn"
    summary: ClassVar[str] = "decoupled direction and norm, minimal L2, white box"
    aliases: ClassVar[tuple[str, ...]] = ("ddn-l2",)
    source: ClassVar[str] = "Rony et al., CVPR 2019, algorithm 1"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share by which the radius shrinks or grows at a step."""
    first: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Radius at the start, in pixel space."""

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.attacks.DDNAttack(init_epsilon=self.first, steps=self.steps, gamma=self.gamma)
