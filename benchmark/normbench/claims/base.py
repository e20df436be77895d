"""The contract of a claim: what a source says, how that is tested, and what was found.

One file each; putting it there registers it. A `Computed` claim is decided by a computation of its own, in float64 or
with fixed seeds; what was found is kept in `findings.json`, which `bench claims --check` holds against a new
computation. A `Trained` claim is read off the committed results, with the statistics of boards and studies. An
`Untested` claim says why.

A finding is made of parts: a number, its interval, and where the claim says that it lies. A part holds where the whole
interval lies there, is refuted where none of it does, and is undecided otherwise. What a claim is about (a layer, a
formula, an order of methods) is the value of `about`; `turned` is the same with the claim turned round, on which every
test expects the opposite finding. Import torch inside methods.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from normbench.board import Comparison
from normbench.errors import BenchError
from normbench.spec.plugins import Plugin
from normbench.studies import Evidence
from normbench.studies._stats import FOUND, Estimate, seeds_needed

Test = Literal["exact", "simulated", "trained", "not tested"]
Verdict = Literal["holds", "holds in part", "refuted", "undecided", "not tested"]
DECIDED: tuple[Verdict, ...] = ("holds", "holds in part", "refuted")

#: Relative error up to which numbers in float64 count as equal; an eps of 1e-12 leaves less.
EQUAL = 1e-7


@dataclass(frozen=True)
class Source:
    """A document that makes claims."""

    short: str
    full: str
    address: str = ""


SOURCES: Mapping[str, Source] = {
    "sun": Source(
        "Sun et al. 2020",
        "J. Sun, X. Cao, H. Liang, W. Huang, Z. Chen, Z. Li: New Interpretations of Normalization Methods in Deep "
        "Learning, AAAI 2020",
        "https://arxiv.org/abs/2006.09104",
    ),
    "huang": Source(
        "Huang 2021",
        "L. Huang: Normalization Techniques in Deep Learning: Methods, Analyses and Applications, tutorial at CVPR "
        "2021, part on analyses",
    ),
    "yuan": Source("Yuan", "J. Yuan: Normalization, a summary of five methods, Zhejiang University"),
    "cai": Source(
        "Cai and Wei 2020",
        "D. Cai, S. Wei: Research on ideologies of Batch Normalization, project report STAD80, 2020",
    ),
}


@dataclass(frozen=True)
class Theme:
    """What a group of claims is about. leads: the claims that speak for it, by name."""

    title: str
    leads: tuple[str, ...] = ()


OTHER = "other"
THEMES: Mapping[str, Theme] = {
    "robustness": Theme(
        "Growing weights, weight decay and attacks", ("growth-vulnerability", "decay-bim", "rescaling-amplifies")
    ),
    "training": Theme("Training and accuracy", ("bn-higher-rates", "data-over-weights", "ics-not-reduced")),
    "batch": Theme("The size of the batch", ("bn-small-batches", "gn-stable-batches", "batch-equals-width")),
    "dynamics": Theme(
        "Weights whose scale does not count", ("growth-without-decay", "wd-equilibrium", "row-orthogonality")
    ),
    "whitening": Theme("Whitening and its noise", ("snd-order", "snd-order-trained", "constraint-numbers")),
    "units": Theme("Single units", ("gamma-approaches-sigma", "similar-units-removed", "small-gamma")),
    "algebra": Theme("What a layer computes", ("bn-two-sided", "standardized-invariance", "variance-printed-squared")),
    "beyond": Theme("Beyond what is run here", ("ln-recurrent", "generalization-bounds")),
    OTHER: Theme("Further claims"),
}


@dataclass(frozen=True)
class Part:
    """A number, its interval, and where the claim says that it lies. n: seeds that the interval is over; 0 where chance
    has no part in it.
    """

    what: str
    value: float
    low: float
    high: float
    claimed: tuple[float, float]
    n: int = 0
    printed: float | None = None
    """The number that the source prints for it, where it prints one."""
    where: str = ""
    """On which board, where a finding is read off several."""

    @property
    def verdict(self) -> Verdict:
        least, most = self.claimed
        if least <= self.low and self.high <= most:
            return "holds"
        if self.high < least or most < self.low:
            return "refuted"
        return "undecided"

    @property
    def half(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    @property
    def margin(self) -> float:
        """How far inside of what is claimed it lies, in halves of its interval."""
        inside = min(self.value - self.claimed[0], self.claimed[1] - self.value)
        return inside / self.half if self.half else math.inf

    @property
    def found(self) -> float | None:
        """How large an effect would have been found in 80 of 100 repetitions; None where chance has no part in it."""
        return FOUND * self.half if self.n and math.isfinite(self.half) else None

    @property
    def needed(self) -> int | None:
        """Seeds that would decide it in 80 of 100 repetitions, were the value true and the spread as seen; None where
        it is decided, has no interval, or lies at the very end of what is claimed.
        """
        distance = min((abs(self.value - end) for end in self.claimed if math.isfinite(end)), default=0.0)
        return seeds_needed(distance, self.half, self.n) if self.verdict == "undecided" else None

    @property
    def text(self) -> str:
        """`1.2 [0.8, 1.6], claimed: at least 0`."""
        shown = f"{self.value:.3g}"
        if self.n:
            shown += f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{shown}, claimed: {self.claim}"

    @property
    def claim(self) -> str:
        """Where the claim says that it lies, in words."""
        least, most = self.claimed
        if math.isinf(least):
            return f"at most {most:g}"
        return f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"


def exact(
    what: str, value: float, *, at_most: float = math.inf, at_least: float = -math.inf, equal: float | None = None
) -> Part:
    """A number that chance has no part in; `equal`: up to rounding."""
    if equal is not None:
        slack = EQUAL * max(1.0, abs(equal))
        at_least, at_most = equal - slack, equal + slack
    return Part(what, float(value), float(value), float(value), (at_least, at_most))


def vanishes(what: str, error: float) -> Part:
    """A relative error that is claimed to be nothing but rounding."""
    return exact(what, error, at_most=EQUAL)


def estimated(
    what: str, estimate: Estimate, n: int, *, at_most: float = math.inf, at_least: float = -math.inf
) -> Part | None:
    """A number with the interval that a study gave it; None where it has none."""
    if estimate.low is None or estimate.high is None:
        return None
    return Part(what, estimate.value, estimate.low, estimate.high, (at_least, at_most), n)


def compared(what: str, made: Comparison, factor: float = 1.0, printed: float | None = None) -> Part | None:
    """A difference over seeds that is claimed to be above zero, judged as the study judged it; None where it was not
    tested. printed: what the source prints for it.
    """
    if made.mean is None or made.interval is None:
        return None
    low, high = factor * made.interval.low, factor * made.interval.high
    return Part(what, factor * made.mean, low, high, (0.0, math.inf), len(made.pairs), printed)


@dataclass(frozen=True)
class Finding:
    """What was found of a claim. reason: why it was not tested. scope: networks, data and seeds."""

    parts: tuple[Part, ...] = ()
    reason: str = ""
    scope: str = ""

    @property
    def verdict(self) -> Verdict:
        """Holds where every part does, refuted where some are and none holds, in part where some hold."""
        said = {p.verdict for p in self.parts}
        if not said:
            return "not tested"
        if said == {"holds"}:
            return "holds"
        if "holds" in said:
            return "holds in part"
        return "refuted" if "refuted" in said else "undecided"

    @property
    def deciding(self) -> Part | None:
        """The part that the verdict hangs on: one that does not hold where there is one, else the closest."""
        open_ = [p for p in self.parts if p.verdict == "refuted"] or [p for p in self.parts if p.verdict != "holds"]
        return next(iter(open_ or self.parts), None)

    @property
    def clearest(self) -> Part | None:
        """Where a claim holds in part: the part that lies most clearly where it says."""
        held = [p for p in self.parts if p.verdict == "holds"]
        return max(held, key=lambda p: p.margin) if self.verdict == "holds in part" else None

    @property
    def split(self) -> str:
        """Where a claim holds in part: `3 of 11 numbers hold, 8 are undecided`; else empty."""
        if self.verdict != "holds in part":
            return ""
        counts = Counter(p.verdict for p in self.parts)
        others = ", ".join(f"{n} {'is' if n == 1 else 'are'} {said}" for said, n in counts.items() if said != "holds")
        held = counts["holds"]
        return f"{held} of {len(self.parts)} numbers {'holds' if held == 1 else 'hold'}, {others}"

    @property
    def needed(self) -> int | None:
        """Seeds that would decide one of its undecided parts."""
        return min((p.needed for p in self.parts if p.needed), default=None)

    @property
    def power(self) -> str:
        """How large an effect would have been found, for findings that rest on chance."""
        sizes = sorted(p.found for p in self.parts if p.found)
        if not sizes:
            return ""
        return f"{sizes[0]:.2g}" if len(sizes) == 1 else f"{sizes[0]:.2g} to {sizes[-1]:.2g}"


class Claim(Plugin, ABC):
    """A statement of a source. `summary`: the statement in one plain sentence; `source`: a key of `SOURCES`."""

    theme: ClassVar[str] = OTHER
    """What it is about: a key of `THEMES`."""
    place: ClassVar[str]
    """Equation, figure, table, section or slide."""
    test: ClassVar[Test]
    scope: ClassVar[str]
    """Networks, data and seeds that the finding is about."""
    study: ClassVar[str] = ""
    """The study that shows more, by name."""
    note: ClassVar[str] = ""
    """What a reader should know of the finding: why it holds in part, what the print says."""


class Computed(Claim):
    """Decided by a computation of its own."""

    @abstractmethod
    def about(self) -> Any:
        """What the claim is about: the value that `measure` looks at."""

    @abstractmethod
    def turned(self) -> Any:
        """The same with the claim turned round: a wrong layer or formula, the other order. Where the claim holds it
        must be refuted for this one, and hold where it is refuted.
        """

    @abstractmethod
    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        """The parts of the finding. All random numbers come from `seed`."""

    def compute(self, about: Any = None, seed: int = 0) -> Finding:
        """The finding, of `about` in place of what the claim is about."""
        return Finding(tuple(self.measure(self.about() if about is None else about, seed)), scope=self.scope)


#: What trained claims are read off: the evidence of every suite that has results, by its name.
Evidences = Mapping[str, Evidence]


class Trained(Claim):
    """Read off the committed results."""

    test: ClassVar[Test] = "trained"
    scope: ClassVar[str] = "the committed results that have the shape of the study"
    reads: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the curves that it needs."""

    @abstractmethod
    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        """What the results of one suite say: the title of a board, and a part, None where it has too few seeds."""

    def read(self, found: Evidences) -> Finding:
        """What all results say."""
        seen = [(suite, board, part) for suite in sorted(found) for board, part in self.parts(found[suite])]
        boards = {board for _, board, p in seen if p}
        parts = tuple(replace(p, where=board if len(boards) > 1 else "") for _, board, p in seen if p)
        places = "; ".join(dict.fromkeys(f"{board} ({suite})" for suite, board, p in seen if p))
        seeds = sorted({p.n for p in parts})
        if not seen:
            return Finding(reason="no results have the shape that it needs")
        if not parts:
            return Finding(reason="fewer than three seeds")
        return Finding(parts, scope=f"{places}; {' or '.join(map(str, seeds))} seeds")


class Untested(Claim):
    """Listed, and not tested here."""

    test: ClassVar[Test] = "not tested"
    scope: ClassVar[str] = ""
    reason: ClassVar[str]


RECORD = Path(__file__).with_name("findings.json")


def recorded(path: Path = RECORD) -> dict[str, Finding]:
    """What was found of computed claims when they were last recorded, by name. Raises `BenchError` where the file
    cannot be read.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {
            name: Finding(tuple(Part(**p | {"claimed": _ends(p["claimed"])}) for p in row["parts"]), scope=row["scope"])
            for name, row in rows.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BenchError(
            f"{path}: no record of findings ({error}); write it anew: bench claims --check --record"
        ) from error


def record(found: Mapping[str, Finding], path: Path = RECORD) -> None:
    """Keep findings of computed claims."""

    def written(part: Part) -> dict[str, Any]:
        numbers = {k: float(f"{getattr(part, k):.6g}") for k in ("value", "low", "high")}
        claimed = [None if math.isinf(v) else v for v in part.claimed]
        return {"what": part.what, **numbers, "claimed": claimed, "n": part.n}

    rows = {n: {"scope": f.scope, "parts": [written(p) for p in f.parts]} for n, f in sorted(found.items())}
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _ends(claimed: Sequence[float | None]) -> tuple[float, float]:
    low, high = claimed
    return -math.inf if low is None else low, math.inf if high is None else high


def settle(claim: Claim, record_: Mapping[str, Finding], found: Callable[[], Evidences]) -> Finding:
    """What is known of a claim."""
    if isinstance(claim, Untested):
        return Finding(reason=claim.reason)
    if isinstance(claim, Trained):
        return claim.read(found())
    kept = record_.get(claim.name)
    return kept or Finding(reason="not computed yet: bench claims --check --record")
