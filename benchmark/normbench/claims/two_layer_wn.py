"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class TwoLayerWn(Untested):
    name = "two-layer-wn"
    summary = "Two-layer ReLU networks with weight normalization converge to a global minimum"
    source = "huang"
    theme = "beyond"
    place = "Slide: theoretical analysis under assumptions (Dukler et al. 2020)"
    reason = (
        "a theorem for widths that grow with the number of examples; no width that can be run here fulfils its premise"
    )
