"""The norm grows, so the gradient falls: the step that counts gets smaller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class AutoTuning(Computed):
    name = "auto-tuning"
    summary = "Training a scale-invariant weight without decay lowers its effective learning rate by itself"
    source = "huang"
    theme = "dynamics"
    place = "Slide: the auto-tuning effects of learning rate"
    test = "simulated"
    scope = "1,000 steps of SGD, a linear layer before batch norm, noisy targets, rates 0.1, 1 and 10, float64"
    note = "The slide prints the update with a plus; it is a descent."

    def about(self) -> Any:
        """Weight decay times the rate."""
        return 0.0

    def turned(self) -> Any:
        """Weight decay keeps the effective rate up."""
        return 0.02

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._angles import Setting, steps

        rates = (0.1, 1.0, 10.0)
        run = steps("bn", [Setting(lr, about / lr, 0.0) for lr in rates], count=1000, seed=seed)
        for lr, early, late in zip(rates, run[200:300].mean(0), run[-100:].mean(0), strict=True):
            yield exact(
                f"angle of steps 900 to 1,000 over that of steps 200 to 300, rate {lr:g}", late / early, at_most=0.97
            )
