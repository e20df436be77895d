"""Equation 12's effective weights over training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class EllipsoidConverges(Computed):
    name = "ellipsoid-converges"
    summary = "The effective weights of batch norm, and the ellipsoid that they lie on, converge as training converges"
    source = "sun"
    theme = "units"
    place = "Section 2.2, behind equation 12"
    test = "trained"
    scope = (
        "first norm of MLPs of 3x32 units with batch norm, movement over 50 steps from step 350 against that from "
        "step 10, rate 0.3, 8 seeds, on the digits (8x8), plain SGD"
    )

    def about(self) -> Any:
        """Steps from which on the movement is looked at: early and late."""
        return (10, 350)

    def turned(self) -> Any:
        return (350, 10)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._affine import moved
        from normbench.claims._chance import mean
        from normbench.claims._small import Training

        early, late = (moved(Training(norm="bn", rates=(0.3,), first=100 * seed), start, 50) for start in about)
        yield mean("movement of the effective weights late over early", late / early, at_most=0.8)
