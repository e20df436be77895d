"""Attacks and noises: `registry` finds them."""

from __future__ import annotations

from normbench.attacks.base import Attack
from normbench.spec.plugins import Registry
from normbench.spec.rooms import callable_room

__all__ = ["Attack", "registry"]

callable_room(__name__)

registry: Registry[Attack] = Registry("attack", "normbench.attacks", Attack, "normbench.attacks")  # type: ignore[type-abstract]
