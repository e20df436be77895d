"""What rescaling the weight does to the gradient of a normalized layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class ScaleGradient(Computed):
    name = "scale-gradient"
    summary = (
        "Rescaling the weight by a leaves batch norm, layer norm and weight norm as they are, and divides the "
        "gradient by a"
    )
    source = "huang"
    theme = "dynamics"
    place = "Slide: scale invariant analysis"
    test = "exact"
    scope = "a 3x3 convolution of 32 channels before or under each method, a = 7, float64, eps 1e-12"

    def about(self) -> Any:
        """The methods."""
        return ("bn", "ln", "wn")

    def turned(self) -> Any:
        """Methods without scale invariance."""
        return ("none", "dyt")

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._layers import Bench, apart, normal, tiny
        from normbench.norms import registry

        for method in about:
            bench = Bench(tiny(registry.parse(method)))
            gradients = []
            for factor in (1.0, 7.0):
                raw = (factor * bench.raw).requires_grad_()
                made = bench.run(raw=raw)
                gradients.append(torch.autograd.grad((made * normal(seed, *made.shape)).sum(), raw)[0])
            yield vanishes(f"output of {method}", apart(bench.run(raw=7 * bench.raw), bench.run()))
            yield vanishes(f"a times the gradient at a w, {method}", apart(7 * gradients[1], gradients[0]))
