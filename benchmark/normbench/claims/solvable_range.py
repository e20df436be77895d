"""For which batches and groups a normalization can be satisfied at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class SolvableRange(Computed):
    name = "solvable-range"
    summary = (
        "Normalization can be satisfied for m >= 2 (BN), m >= (d + 3) / 2 (whitening), g <= d / 2 (GN), g <= "
        "(sqrt(8d + 9) - 3) / 2 (GW)"
    )
    source = "huang"
    theme = "whitening"
    place = "Slide: constraint number, third row of the table"
    test = "exact"
    scope = (
        "linear layers: d = 16 for BN and whitening, d = 48 for GN and GW, normally distributed inputs, float64, eps "
        "1e-12"
    )
    note = (
        "The ranges count equations and unknowns. Whitening needs more: m centred examples have rank m - 1 at most, "
        "so that the identity is no covariance of theirs for m <= d; groups likewise for g > (sqrt(4d + 1) - 1) / 2."
    )

    def about(self) -> Any:
        """The end of each range: m or g, by method."""
        return {"bn": 2, "bw-zca[group=16]": 10, "gn": 24, "gw": 8}

    def turned(self) -> Any:
        """Beyond the ranges."""
        return {"bn": 1, "bw-zca[group=16]": 3, "gn": 48, "gw": 24}

    def measure(self, about: Any, seed: int) -> Iterable[Part]:

        from normbench.claims._layers import normal, unmet

        for method in ("bn", "bw-zca[group=16]"):
            m = about[method]
            error = unmet(normal(seed, 1, 16 if "bw" in method else 1, m)) if m > 1 else 1.0
            yield exact(f"smallest distance from what is claimed of the output, {method}, m = {m}", error, at_most=1e-6)
        d = 48
        for method in ("gn", "gw"):
            g = about[method]
            rows = normal(seed, 1, g, d // g) if method == "gw" else normal(seed, g, 1, d // g)
            error = unmet(rows) if d // g > 1 else 1.0
            yield exact(f"smallest distance from what is claimed of the output, {method}, g = {g}", error, at_most=1e-6)
