"""Carlini and Wagner in L2."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._minimal import MinimalAttack
from normbench.attacks.base import Radii, Threat


class CarliniWagnerL2(MinimalAttack):
    """min ||x' - x||_2^2 + c * max(0, z_y - max_{i != y} z_i), by Adam on tanh-transformed pixels, with a binary search
    for c.

    foolbox's early abort looks at the loss of a whole batch; it is off here, so that an image's result does not depend
    on its batch. Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks", 2017, section
    VI.A.
    """

    name: ClassVar[str] = "cw-l2"
    summary: ClassVar[str] = "Carlini and Wagner, minimal L2, white box"
    aliases: ClassVar[tuple[str, ...]] = ("cw", "carlini-wagner")
    source: ClassVar[str] = "Carlini and Wagner, S&P 2017, section VI.A"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    searches: Annotated[int, Field(ge=1, le=100)] = 5
    """Steps of the binary search for c."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Steps of Adam for each c."""
    step_size: Annotated[float, Field(gt=0, le=10)] = 0.02
    """Of Adam, on the transformed pixels."""
    first: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """The first c."""

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.searches,
            steps=self.steps,
            stepsize=self.step_size,
            initial_const=self.first,
            abort_early=False,
        )
