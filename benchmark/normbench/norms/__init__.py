"""Normalization methods: `registry` finds them, `resolve` reads what a suite file says."""

from __future__ import annotations

from typing import NamedTuple

from normbench.norms.base import ActivationNorm, Claims, Norm, NormModifier, NormSiteError, Site, WeightNorm
from normbench.spec.plugins import PluginError, Registry
from normbench.spec.rooms import callable_room
from normbench.spec.trial import Component

__all__ = [
    "ActivationNorm",
    "Claims",
    "Methods",
    "Norm",
    "NormModifier",
    "NormSiteError",
    "Site",
    "WeightNorm",
    "activation_of",
    "registry",
    "resolve",
    "split",
]

callable_room(__name__)

registry: Registry[Norm] = Registry("norm", "normbench.norms", Norm, "normbench.norms")


class Methods(NamedTuple):
    """The methods of a trial, in the order in which they are written."""

    weight: WeightNorm | None
    activation: ActivationNorm
    modifier: NormModifier | None


def resolve(text: str) -> tuple[str, tuple[Component, ...]]:
    """Read `gn`, `ws+gn[groups=8]`, `bn+noise`: canonical label, and at most one weight method, exactly one activation
    method, at most one modifier.

    Where only a weight method is named, the activation method is `none`; a modifier needs one that is named. Raises
    `PluginError`.
    """
    parts = [registry.parse(part) for part in text.split("+")]
    weights = [p for p in parts if isinstance(p, WeightNorm)]
    activations = [p for p in parts if isinstance(p, ActivationNorm)]
    modifiers = [p for p in parts if isinstance(p, NormModifier)]
    if max(len(weights), len(activations), len(modifiers)) > 1:
        found = f"{len(weights)}, {len(activations)} and {len(modifiers)}"
        raise PluginError(
            f"{text!r}: '+' joins one weight method, one activation method and one modifier, found {found}"
        )
    if modifiers and not activations:
        named = "+".join(p.label() for p in (*weights, registry.parse("bn"), *modifiers))
        raise PluginError(
            f"{text!r}: {modifiers[0].name} modifies an activation method, which must be named, for example {named}"
        )
    if not activations:
        activations = [registry.parse("none")]  # type: ignore[list-item]
    ordered = (*weights, *activations, *modifiers)
    label = "+".join(p.label() for p in ordered).removesuffix("+none")  # `wn+none` is written `wn`
    return label, tuple(p.component() for p in ordered)


def split(components: tuple[Component, ...]) -> Methods:
    """The methods of a trial, made from its components."""
    made = [registry.from_component(c) for c in components]
    return Methods(
        weight=next((m for m in made if isinstance(m, WeightNorm)), None),
        activation=next(m for m in made if isinstance(m, ActivationNorm)),
        modifier=next((m for m in made if isinstance(m, NormModifier)), None),
    )


def activation_of(components: tuple[Component, ...]) -> str:
    """The name of the activation method of a trial."""
    return next(c.name for c in components if issubclass(registry.get(c.name), ActivationNorm))
