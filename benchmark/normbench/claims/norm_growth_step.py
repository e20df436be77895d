"""Equation 16: what a step of SGD does to the norm of a scale-invariant weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, vanishes


class NormGrowthStep(Computed):
    name = "norm-growth-step"
    summary = (
        "A step of SGD adds eta^2 |g|^2 to the squared norm of a scale-invariant weight, so the norm can only grow"
    )
    source = "sun"
    theme = "dynamics"
    place = "Lemma 3, equation 16"
    test = "exact"
    scope = "200 steps of SGD without momentum and weight decay, a linear layer before batch norm, float64, eps 1e-12"
    note = (
        "With momentum the identity is false (the update is not orthogonal to the weight), though the norm still grows."
    )

    def about(self) -> Any:
        """Momentum and weight decay."""
        return (0.0, 0.0)

    def turned(self) -> Any:
        return (0.9, 0.0)

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._layers import made, normal

        momentum, decay = about
        w, velocity, eta = normal(seed, 8, 12), 0.0, 0.5
        x, target = normal(seed, 64, 12, stream=1), normal(seed, 64, 8, stream=2)
        error = 0.0
        for _ in range(200):
            raw = w.clone().requires_grad_()
            (made("bn", x @ raw.mT) * target).mean().backward()  # type: ignore[no-untyped-call]
            assert raw.grad is not None  # noqa: S101
            velocity = momentum * velocity + raw.grad + decay * w
            moved = w - eta * velocity
            added = float(moved.square().sum() - w.square().sum())
            expected = eta**2 * float(raw.grad.square().sum())
            error = max(error, abs(added / expected - 1))
            w = moved
        yield vanishes("largest deviation of the growth over eta^2 |g|^2 from 1", error)
