"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class MeanField(Untested):
    name = "mean-field"
    summary = "Mean-field theory describes signals and gradients in networks with batch norm"
    source = "huang"
    theme = "beyond"
    place = "Slide: theoretical analysis under assumptions"
    reason = (
        "a limit of infinite width with random weights, stated without an inequality or a number that a finite "
        "network could break"
    )
