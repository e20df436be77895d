"""What the sources claim, and what is found of it: one file a claim."""

from __future__ import annotations

from normbench.claims.base import SOURCES, Claim, Computed, Evidences, Finding, Part, Trained, Untested
from normbench.spec.plugins import Registry

__all__ = ["SOURCES", "Claim", "Computed", "Evidences", "Finding", "Part", "Trained", "Untested", "registry"]

#: All claims, by name.
registry: Registry[Claim] = Registry(
    kind="claim",
    package="normbench.claims",
    base=Claim,
    group="normbench.claims",
)
