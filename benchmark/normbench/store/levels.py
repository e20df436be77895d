"""The three levels of trust in a result."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Level(StrEnum):
    """How a result was checked, from the least to the most."""

    SELF_REPORTED = "self-reported"
    SMOKE = "smoke-reproduced"
    RERUN = "re-run by maintainers"

    @property
    def symbol(self) -> str:
        return {"self-reported": "○", "smoke-reproduced": "◐", "re-run by maintainers": "●"}[self.value]

    @property
    def meaning(self) -> str:
        return {
            "self-reported": "only those who ran it have checked it",
            "smoke-reproduced": "a re-run of its first training steps, of all of it where that is short, gave the "
            "same within tolerance",
            "re-run by maintainers": "a re-run of the whole trial gave the same within tolerance",
        }[self.value]

    @property
    def height(self) -> int:
        return list(Level).index(self)


def lowest(levels: Iterable[Level]) -> Level:
    """The least of `levels`; `SELF_REPORTED` where there are none."""
    return min(levels, key=lambda level: level.height, default=Level.SELF_REPORTED)
