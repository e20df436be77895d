"""Pruning by similar (gamma, beta), with fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class SimilarUnitsRemoved(Computed):
    name = "similar-units-removed"
    summary = "Units with similar gamma and beta can be removed without loss of performance"
    source = "sun"
    theme = "units"
    place = "Section 2.2, secondly; section 4"
    test = "trained"
    scope = (
        "MLPs of 3x32 units with batch norm, a quarter of the units of every layer merged, then 60 steps more for "
        "all, 24 seeds, on the digits (8x8), plain SGD"
    )
    note = "Left to future work in the source. The second number asks whether it matters which units are taken."

    def about(self) -> Any:
        """Share of the units, and how they are chosen."""
        return (0.25, "similar")

    def turned(self) -> Any:
        """Nearly all units."""
        return (0.97, "similar")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._merged import tuned
        from normbench.claims._small import Training

        share, choice = about
        of = Training(norm="bn", rates=(0.3,), seeds=24, first=100 * seed)
        merged, control, whole = (100 * tuned(of, share, c, 60) for c in (choice, "random", "none"))
        yield mean("accuracy less that of the whole network, points", merged - whole, at_least=-2.0)
        yield mean("accuracy less that after merging random units, points", merged - control, at_least=0.0)
