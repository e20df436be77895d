"""Does a larger norm of the weights by itself amplify noise and attacks?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class RescalingAmplifies(Computed):
    name = "rescaling-amplifies"
    summary = "A larger magnitude of the weights amplifies noise and attacks"
    source = "sun"
    theme = "robustness"
    place = "Sections 2.5 and 3.2, abstract"
    test = "exact"
    scope = "three layers with batch norm behind each, all weights times 10, float64, eps 1e-12"
    study = "weight-decay"
    note = (
        "Scale-invariant weights of any norm make the same function, so that their growth by itself amplifies "
        "nothing. Where no norm follows, it does."
    )

    def about(self) -> Any:
        """The method behind each layer."""
        return "bn"

    def turned(self) -> Any:
        """Without normalization weights that grow do amplify."""
        return "none"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import made, normal

        x, noise = normal(seed, 64, 12), 0.1 * normal(seed, 64, 12, stream=9)
        weights = [normal(seed, 12, 12, stream=i) / 12**0.5 for i in (1, 2, 3)]

        def answer(factor: float, images: Any) -> Any:
            for w in weights:
                images = made(about, images @ (factor * w).mT).relu()
            return images

        def moved(factor: float) -> float:
            return float((answer(factor, x + noise) - answer(factor, x)).norm())

        def slope(factor: float) -> float:
            given = x.clone().requires_grad_()
            answer(factor, given).square().sum().backward()
            return float(given.grad.norm())  # type: ignore[union-attr]

        yield exact("change of the output by noise, weights times 10 over times 1", moved(10) / moved(1), at_least=1.01)
        yield exact("gradient to the input, likewise", slope(10) / slope(1), at_least=1.01)
