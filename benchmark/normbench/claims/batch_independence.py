"""Which methods do not see the rest of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class BatchIndependence(Computed):
    name = "batch-independence"
    summary = "Layer, instance and group norm compute each example by itself, whatever the batch size"
    source = "yuan"
    theme = "batch"
    place = "Sections 3 to 5"
    test = "exact"
    scope = "a 3x3 convolution of 32 channels, 32 examples of 4x4, all but one exchanged, float64"

    def about(self) -> Any:
        """The methods."""
        return ("ln", "in", "gn[groups=4]")

    def turned(self) -> Any:
        return ("bn", "bw-zca")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import Bench, apart, normal
        from normbench.norms import registry

        for method in about:
            bench = Bench(registry.parse(method))
            z = bench.z.clone()
            z[1:] = 2 * normal(seed, *z[1:].shape)
            yield vanishes(
                f"change of an output by the rest of the batch, {method}", apart(bench.run(z=z)[:1], bench.run()[:1])
            )
            yield vanishes(
                f"alone against in the batch, {method}", apart(bench.run(z=bench.z[:2])[:1], bench.run()[:1])
            )
