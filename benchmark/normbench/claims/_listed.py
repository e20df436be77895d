"""All claims with what is found of them, as commands and pages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from normbench.claims import registry
from normbench.claims.base import SOURCES, Claim, Evidences, Finding, recorded, settle


@dataclass(frozen=True)
class Listed:
    """A claim, and what is found."""

    claim: Claim
    finding: Finding

    @property
    def number(self) -> str:
        """The number that decides, or the reason why there is none; of a claim that holds in part how many hold,
        and which most clearly.
        """
        found = self.finding
        part = found.clearest or found.deciding
        said = f"{part.what}: {part.text}" if part else found.reason
        return f"{found.split}; most clearly {said}" if found.split else said

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        c, f, part = self.claim, self.finding, self.finding.deciding
        parts = ((p, {"what": p.what, "board": p.where}) for p in f.parts)
        return {
            "name": c.name,
            "source": SOURCES[c.source].short,
            "place": c.place,
            "claim": c.summary,
            "test": c.test,
            "verdict": f.verdict,
            "decides": part and {"what": part.what, "value": part.value, "low": part.low, "high": part.high},
            "parts": [named | {"verdict": p.verdict, "number": p.text, "seeds": p.n} for p, named in parts],
            "scope": f.scope or c.scope,
            "seeds_needed": f.needed,
            "power": f.power,
            "reason": f.reason,
            "note": c.note,
            "study": c.study,
        }


def chosen(source: str | None = None) -> list[Claim]:
    """The claims of a source, or of all, in the order of sources, then by test and name; one that cannot be imported is
    left out (`registry.problems` names it).
    """
    broken = registry.problems()
    made = [registry.make(name) for name in registry.names() if name not in broken]
    order = list(SOURCES)
    tests = ("exact", "simulated", "trained", "not tested")
    own = [c for c in made if source in (None, c.source)]
    return sorted(own, key=lambda c: (order.index(c.source), tests.index(c.test), c.name))


def listed(claims: Iterable[Claim], evidences: Callable[[], Evidences]) -> list[Listed]:
    """What is found of each. evidences: asked for once, and only where a claim is read off results."""
    kept, found = recorded(), cache(evidences)
    return [Listed(c, settle(c, kept, found)) for c in claims]
