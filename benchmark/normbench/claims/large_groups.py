"""Group norm and group whitening with many groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class LargeGroups(Computed):
    name = "large-groups"
    summary = "Group norm and group whitening get worse when the number of groups is large"
    source = "huang"
    theme = "batch"
    place = "Slide: the large group problem of GN"
    test = "trained"
    scope = (
        "MLPs of 3x32 units, 120 steps at a rate of 0.3; GN with 4 and 16 groups, GW with 2 and 8, 8 seeds, on the "
        "digits (8x8), plain SGD, paired by seed"
    )

    def about(self) -> Any:
        """Groups by method: those that work, then those that do not."""
        return {"gn": (4, 16), "gw": (2, 8)}

    def turned(self) -> Any:
        return {"gn": (16, 4), "gw": (8, 2)}

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._compared import best
        from normbench.claims._small import Training

        of = Training(rates=(0.3,), first=100 * seed)
        for method, groups in about.items():
            first, second = best(of, *(f"{method}[groups={g}]" for g in groups))
            what = f"accuracy with {groups[0]} groups less that with {groups[1]}, {method}, points"
            yield mean(what, 100 * (first - second), at_least=1.0)
