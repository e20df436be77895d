"""How many groups of channels a method takes where nothing is said."""

from __future__ import annotations

#: Of Wu and He.
DEFAULT_GROUPS = 32


def default_groups(channels: int, at_most: int = DEFAULT_GROUPS) -> int:
    """The largest divisor of `channels` up to `at_most` that leaves at least two channels a group (one group where
    there is none).
    """
    return max((g for g in range(1, at_most + 1) if channels % g == 0 and channels // g >= 2), default=1)
