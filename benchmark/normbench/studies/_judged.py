"""Single findings of a study, each with its interval: the rows of its forest plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from normbench.board import Comparison
from normbench.studies._stats import Estimate, seeds_needed

#: What can be told of a finding.
Told = Literal["holds", "contradicted", "undecided", "not tested"]


@dataclass(frozen=True)
class Judged:
    """A finding put to the test: a row of a forest plot. The estimate is above zero where the finding holds."""

    finding: str
    """What is said, in words: `weight decay raises accuracy under BIM`."""
    of: str
    """Of which method, pair or place; empty where there is one alone."""
    unit: str
    estimate: Estimate | None
    why: str = ""
    """Why it was not tested; empty where it was."""
    n: int = 0
    """Seeds that the interval is over; 0 where it is not over seeds."""

    @property
    def verdict(self) -> Told:
        if self.why or self.estimate is None or self.estimate.low is None:
            return "not tested"
        if self.estimate.above_zero:
            return "holds"
        return "contradicted" if self.estimate.below_zero else "undecided"

    @property
    def needed(self) -> int | None:
        """Seeds that would decide it; None where it is decided, or nothing can be said of that."""
        made = self.estimate
        if self.verdict != "undecided" or made is None or made.low is None or made.high is None:
            return None
        return seeds_needed(abs(made.value), (made.high - made.low) / 2, self.n)


def judged(finding: str, of: str, unit: str, made: Comparison, *, turned: bool = False) -> Judged:
    """A finding that a difference over seeds lies above zero, or below where it is `turned`."""
    factor = (100.0 if unit == "points" else 1.0) * (-1 if turned else 1)
    if made.mean is None:
        return Judged(finding, of, unit, None, made.why or "not tested: no seed in common")
    ends = sorted(factor * v for v in (made.interval.low, made.interval.high)) if made.interval else [None, None]
    return Judged(finding, of, unit, Estimate(factor * made.mean, *ends), made.why, len(made.pairs))
