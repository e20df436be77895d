"""Which methods do the same in training and in testing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class SameInTesting(Computed):
    name = "same-in-testing"
    summary = "Layer, instance and group norm do the same in testing as in training"
    source = "yuan"
    theme = "batch"
    place = "Sections 3 to 5"
    test = "exact"
    scope = "32 channels, 32 examples of 4x4 after training on other data, float64"

    def about(self) -> Any:
        """The methods."""
        return ("ln", "in", "gn[groups=4]")

    def turned(self) -> Any:
        return ("bn", "bw-zca")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import copy

        from normbench.claims._layers import Bench, apart
        from normbench.norms import registry

        for method in about:
            bench = Bench(registry.parse(method))
            tested = copy.deepcopy(bench.module).eval()(bench.x())
            yield vanishes(f"testing against training, {method}", apart(tested, bench.layer(bench.x())))
