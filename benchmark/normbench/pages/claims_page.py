"""The claims of the sources: what they say, what holds, by which number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import normbench.norms as norms
from normbench.board.words import capital, spelled
from normbench.claims._listed import Listed, chosen, listed
from normbench.claims.base import DECIDED, OTHER, SOURCES, THEMES, Finding, Part, Theme
from normbench.pages.context import Context
from normbench.pages.methods import linked
from normbench.pages.study_pages import addresses
from normbench.pages.verdicts import EVERY, Share, claimed, mark, number, shares, signed, span, typeset, written
from normbench.studies import Evidence, Study

#: How a claim was tested, in words.
TESTS = {
    "exact": "calculated, chance has no part in it",
    "simulated": "simulated with fixed seeds",
    "trained": "networks were trained",
    "not tested": "not tested",
}


@dataclass(frozen=True)
class Group:
    """The claims of a theme."""

    key: str
    theme: Theme
    rows: tuple[Listed, ...]

    @property
    def href(self) -> str:
        return f"claims.html#theme-{self.key}"

    @property
    def shares(self) -> list[Share]:
        return shares(r.finding.verdict for r in self.rows)

    @property
    def leads(self) -> list[Listed]:
        """Those that speak for it; without such, the first ones."""
        named = [r for name in self.theme.leads for r in self.rows if r.claim.name == name]
        return named or list(self.rows[:2])


def rows_of(found: Mapping[str, Evidence]) -> list[Listed]:
    """Every claim with what is found of it."""
    return listed(chosen(), lambda: found)


def groups(rows: Sequence[Listed]) -> list[Group]:
    """The claims by theme, in the order of the themes, those that speak for it first; without themes that have none."""

    def theme(row: Listed) -> str:
        return row.claim.theme if row.claim.theme in THEMES else OTHER

    made = []
    for key, t in THEMES.items():
        own = [r for r in rows if theme(r) == key]
        first = {name: i for i, name in enumerate(t.leads)}
        made.append(Group(key, t, tuple(sorted(own, key=lambda r: first.get(r.claim.name, len(first))))))
    return [g for g in made if g.rows]


def write(context: Context, rows: Sequence[Listed], studies: Sequence[Study]) -> None:
    """Write claims.html: a section for each theme, a part for each claim."""
    paths = addresses(studies)
    pages = {s.name: (paths[id(s)], s.title) for s in reversed(studies)}
    verdicts = [r.finding.verdict for r in rows]
    context.writer.page(
        "claims.html",
        "claims.html",
        title="Claims",
        groups=[
            {"key": g.key, "title": g.theme.title, "shares": g.shares, "rows": [_row(r, pages) for r in g.rows]}
            for g in groups(rows)
        ],
        sources=[
            {
                "key": key,
                "short": source.short,
                "full": linked(f"{source.full} {source.address}".strip()),
                "count": sum(r.claim.source == key for r in rows),
            }
            for key, source in SOURCES.items()
        ],
        marks=EVERY,
        shares=shares(verdicts),
        total=len(rows),
        decided=sum(v in DECIDED for v in verdicts),
    )


def view(row: Listed) -> dict[str, Any]:
    """What a page says of a claim in short: its statement, verdict and the number that decides. Of one that holds in
    part also how many numbers hold, and which most clearly.
    """
    claim, finding = row.claim, row.finding
    deciding, clearest = finding.deciding, finding.clearest
    return {
        "name": claim.name,
        "claim": typeset(claim.summary),
        "source": SOURCES[claim.source].short,
        "source_key": claim.source,
        "place": claim.place,
        "mark": mark(finding.verdict),
        "part": _part(deciding) if deciding else None,
        "split": finding.split,
        "clearest": _part(clearest) if clearest else None,
        "reason": finding.reason,
        "needed": finding.needed,
    }


def _row(row: Listed, pages: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    claim, finding = row.claim, row.finding
    return view(row) | {
        "test": TESTS.get(claim.test, claim.test),
        "trained": claim.test == "trained",
        "parts": [_part(p) for p in finding.parts] if len(finding.parts) > 1 else [],
        "printed": any(p.printed is not None for p in finding.parts),
        "scope": typeset(finding.scope or claim.scope),
        "note": typeset(claim.note),
        "power": _power(finding),
        "study": pages.get(claim.study),
    }


def _part(part: Part) -> dict[str, Any]:
    """A number as it is printed; with a strip where chance has a part in it."""
    bounds = [v for v in part.claimed if abs(v) < float("inf")]
    axis = span([(part.value, part.low, part.high), *((v, None, None) for v in bounds)]) if part.n else None
    what, unit = _unit(part.what)
    said = spelled(_start(what))
    return {
        "what": typeset(spelled(what)),
        "said": typeset(said),
        "number": f"{number(part)}{f' {unit}' if unit else ''}",
        "claimed": claimed(part),
        "mark": mark(part.verdict),
        "needed": part.needed,
        "where": part.where,
        "printed": None if part.printed is None else signed(round(part.printed, 2)),
        "strip": axis and axis.strip(part.value, part.low, part.high),
        "ends": axis and (written(axis.low), written(axis.high)),
        "wanted": axis and _wanted(part, axis.low, axis.high, axis.place),
    }


#: Units that names of numbers end in.
_UNIT = re.compile(r", (points|octaves)$")


def _unit(what: str) -> tuple[str, str]:
    """What a number is of, and its unit: `BN, points` is `BN` in `points`."""
    found = _UNIT.search(what)
    return (what[: found.start()], found[1]) if found else (what, "")


def _start(what: str) -> str:
    """What a number is of, at the start of a line. Methods keep their small letters."""
    first = re.split(r"[ ·\[:,]", what, maxsplit=1)[0]
    return what if {first, *first.split("+")} & set(norms.registry.names()) else capital(what)


def _power(finding: Finding) -> str:
    """How large an effect would have been found, with its unit: `4.4 to 5.5 points`; empty where chance has no part."""
    units = {_unit(p.what)[1] for p in finding.parts if p.n}
    unit = units.pop() if len(units) == 1 else ""
    return f"{finding.power} {unit}".strip() if finding.power else ""


def _wanted(part: Part, low: float, high: float, place: Any) -> tuple[float, float]:
    """Start and length of what the claim asks for, on the axis."""
    first, last = (place(min(max(v, low), high)) for v in part.claimed)
    return first, round(last - first, 2)
