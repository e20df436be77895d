"""By which statistics a network that was trained on those of batches is evaluated: `registry` finds them."""

from __future__ import annotations

from normbench.spec.plugins import Registry
from normbench.statistics.base import Statistics

__all__ = ["Statistics", "registry"]

registry: Registry[Statistics] = Registry("statistics", "normbench.statistics", Statistics, "normbench.statistics")
