"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class LayerNormRecurrent(Untested):
    name = "ln-recurrent"
    summary = "Layer norm keeps the trend of a sequence and suits recurrent networks"
    source = "cai"
    theme = "beyond"
    place = "Section 4.1; also Yuan, section 3"
    reason = "recurrent networks and sequences are outside of this benchmark, which classifies images"
