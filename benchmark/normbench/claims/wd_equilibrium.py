"""With weight decay the angular update of a scale-invariant weight settles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class DecayEquilibrium(Computed):
    name = "wd-equilibrium"
    summary = (
        "With weight decay a scale-invariant weight reaches an equilibrium, where it turns by sqrt(2 eta lambda / (1 "
        "+ momentum)) a step"
    )
    source = "huang"
    theme = "dynamics"
    place = "Slide: the auto-tuning effects and weight decay"
    test = "simulated"
    scope = (
        "each method on a linear layer of 8 rows of 48 inputs, noisy targets, rate times decay 0.002, momentum 0 and "
        "0.9, last 1,000 of 2,500 steps, float64"
    )
    note = "The slide has the arrows, the formula is that of Kosson et al. 2023 (arXiv:2305.17212)."

    def about(self) -> Any:
        """The factor 2 under the root."""
        return 2.0

    def turned(self) -> Any:
        return 8.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import math

        from normbench.claims._angles import Setting, steps
        from normbench.claims._chance import mean

        settings = [Setting(0.1, 0.02, momentum) for momentum in (0.0, 0.9)]
        for method in ("bn", "ln", "wn", "ws"):
            blocks = steps(method, settings, count=2500, seed=seed)[-1000:].reshape(10, 100, 2).mean(1)
            for setting, angles in zip(settings, blocks.T, strict=True):
                predicted = math.sqrt(about * setting.lr * setting.decay / (1 + setting.momentum))
                what = f"measured over predicted angle, {method}, momentum {setting.momentum:g}"
                yield mean(what, angles / predicted, at_least=0.85, at_most=1.15)
