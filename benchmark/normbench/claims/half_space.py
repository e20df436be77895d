"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class HalfSpace(Untested):
    name = "half-space"
    summary = "Batch norm converges exponentially fast in learning half-spaces with Gaussian inputs"
    source = "huang"
    theme = "beyond"
    place = "Slide: theoretical analysis under assumptions (Kohler et al. 2019)"
    reason = (
        "a proven rate for one problem and an optimizer of its own, an adaptive step in length and direction, which "
        "no trial here uses"
    )
