"""Attacks and noises: `registry` finds them."""

from __future__ import annotations

from benchmark.attacks.base import Attack
from benchmark.plugins import Registry

__all__ = ["Attack", "registry"]

registry: Registry[Attack] = Registry("attack", "benchmark.attacks", Attack, "normbench.attacks")  # type: ignore[type-abstract]
