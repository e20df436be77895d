"""Normalization methods: `registry` finds them, `resolve` reads what a suite file says."""

from __future__ import annotations

from benchmark.norms.base import ActivationNorm, Claims, Norm, NormSiteError, Site, WeightNorm
from benchmark.plugins import PluginError, Registry
from benchmark.trial import Component

__all__ = ["ActivationNorm", "Claims", "Norm", "NormSiteError", "Site", "WeightNorm", "registry", "resolve", "split"]

registry: Registry[Norm] = Registry("norm", "benchmark.norms", Norm, "normbench.norms")


def resolve(text: str) -> tuple[str, tuple[Component, ...]]:
    """Read `gn`, `ws+gn[groups=8]`: canonical label, and at most one weight method followed by exactly one activation method.

    Where only a weight method is named, the activation method is `none`. Raises `PluginError`.
    """
    parts = [registry.parse(part) for part in text.split("+")]
    weights = [p for p in parts if isinstance(p, WeightNorm)]
    activations = [p for p in parts if isinstance(p, ActivationNorm)]
    if len(weights) > 1 or len(activations) > 1:
        raise PluginError(f"{text!r}: '+' joins one weight method and one activation method, found {len(weights)} and {len(activations)}")
    if not activations:
        activations = [registry.parse("none")]  # type: ignore[list-item]
    named = (*weights, *activations)
    label = "+".join(p.label() for p in named).removesuffix("+none")  # `wn+none` is written `wn`
    return label, tuple(p.component() for p in named)


def split(components: tuple[Component, ...]) -> tuple[WeightNorm | None, ActivationNorm]:
    """The methods of a trial, made from its components: the weight method, if any, and the activation method."""
    made = [registry.from_component(c) for c in components]
    weight = next((m for m in made if isinstance(m, WeightNorm)), None)
    return weight, next(m for m in made if isinstance(m, ActivationNorm))
