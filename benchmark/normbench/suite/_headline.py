"""The headline of a suite: which of its attacks, at which of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import normbench.attacks as attacks
from normbench.spec.about import About, Headline
from normbench.spec.outcome import BALLS
from normbench.spec.text import show
from normbench.spec.trial import Component
from normbench.suite._problems import Finding, found, nearest

if TYPE_CHECKING:
    from normbench.suite._models import Suite


def about(suite: Suite) -> About:
    """What the suite says of itself, but for what its datasets hold."""
    named = suite.headline and _resolved(suite.headline.attack, suite.headline.size, suite.attacks)
    return About(about=suite.about, role=suite.role, headline=named if isinstance(named, Headline) else None)


def check(suite: Suite, sound: set[str]) -> list[Finding]:
    """Whether there is such an attack, at such a size. `sound`: the suite's keys that hold what the file says."""
    if suite.headline is None or not {"attacks", "headline"} <= sound:
        return []
    named = _resolved(suite.headline.attack, suite.headline.size, suite.attacks)
    return [named] if isinstance(named, Finding) else []


def _resolved(attack: str, size: float, listed: Sequence[Component]) -> Headline | Finding:
    """The headline as rows name it; a finding where the suite has none such."""
    sizes = _sizes(listed)
    fitting = [name for name in sizes if attack in {name, name.partition("[")[0]}]
    if not fitting:
        there = f"there are {', '.join(sizes)}{nearest(attack, list(sizes))}" if sizes else "it has none at all"
        return Finding(("headline", "attack"), f"the suite has no attack called {found(attack)}; {there}")
    if len(fitting) > 1:
        return Finding(("headline", "attack"), f"{found(attack)} could be {' or '.join(fitting)}; write one of them")
    (name,) = fitting
    exact = [s for s in sizes[name] if math.isclose(s, size, rel_tol=1e-6)]
    if exact:
        return Headline(attack=name, size=exact[0])
    run = ", ".join(map(show, sizes[name]))
    return Finding(("headline", "size"), f"{name} has no size {show(size)} in this suite; it has {run}")


def _sizes(listed: Sequence[Component]) -> dict[str, list[float]]:
    """What may be a headline, with its sizes: worst cases, which take two attacks within one ball, then all attacks."""
    single: dict[str, list[float]] = {}
    balls: dict[str, dict[str, float]] = {}
    for part in (p for c in listed for p in attacks.registry.from_component(c).parts()):
        single[part.setting] = list(part.sizes)
        if part.threat in BALLS:
            balls.setdefault(part.threat, {})[part.setting] = part.sizes[0]
    worst: dict[str, list[float]] = {}
    for threat, first in balls.items():
        if len(first) > 1:
            second = sorted(first.values())[1]  # below it, one attack stands alone
            several = sorted({s for name in first for s in single[name] if s >= second})
            worst[f"worst-{threat}"] = several
    return worst | single
