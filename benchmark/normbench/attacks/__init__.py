"""Attacks and noises: `registry` finds them."""

from __future__ import annotations

from normbench.attacks.base import Attack
from normbench.spec.plugins import Registry

__all__ = ["Attack", "registry"]

registry: Registry[Attack] = Registry("attack", "normbench.attacks", Attack, "normbench.attacks")  # type: ignore[type-abstract]
