"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class BatchNormNotRecurrent(Untested):
    name = "bn-not-recurrent"
    summary = "Batch norm does not suit recurrent networks, as it takes out the trend of a sequence"
    source = "cai"
    theme = "beyond"
    place = "Section 4.1"
    reason = "recurrent networks and sequences are outside of this benchmark, which classifies images"
