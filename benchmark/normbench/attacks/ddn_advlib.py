"""Decoupled direction and norm, as its authors keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._advlib import AdversarialLibraryAttack
from normbench.attacks.base import Radii, Threat


class SecondDecoupledDirectionNorm(AdversarialLibraryAttack):
    """`ddn` by another implementation, that of its authors; pixels are not rounded to 8 bits.

    Where an image's gradient is zero, it moves in a direction drawn for its batch. Source: Rony et al., "Decoupling
    direction and norm for efficient gradient-based L2 adversarial attacks and defenses", 2019, algorithm 1.
    """

    name: ClassVar[str] = "ddn-advlib"
    summary: ClassVar[str] = (
        "decoupled direction and norm by its authors, minimal L2, white box (needs normbench[advlib])"
    )
    aliases: ClassVar[tuple[str, ...]] = ("ddn-advlib-l2",)
    source: ClassVar[str] = "Rony et al., CVPR 2019, algorithm 1"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"
    function: ClassVar[str] = "ddn"

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 100
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share by which the radius shrinks or grows at a step."""
    first: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Radius at the start, in pixel space."""

    def arguments(self) -> Mapping[str, Any]:
        return {"steps": self.steps, "γ": self.gamma, "init_norm": self.first, "levels": None}
