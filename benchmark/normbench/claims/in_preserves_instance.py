"""Listed, not tested."""

from __future__ import annotations

from normbench.claims.base import Untested


class InstancePreserves(Untested):
    name = "in-preserves-instance"
    summary = "Instance norm preserves what is characteristic of an instance in image generation"
    source = "yuan"
    theme = "beyond"
    place = "Section 4"
    reason = (
        "image generation is outside of this benchmark; what an instance norm keeps is mean and contrast of none of "
        "its channels"
    )
