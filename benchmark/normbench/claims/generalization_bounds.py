"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class GeneralizationBounds(Untested):
    name = "generalization-bounds"
    summary = "Normalizing weights makes it easier to bound the generalization of a network"
    source = "huang"
    theme = "beyond"
    place = "Slide: challenges and opportunities"
    reason = "says that theory gets easier, and names no bound"
