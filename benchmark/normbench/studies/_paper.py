"""The source paper's findings, held against results: its columns among a board's entries, and its claims about them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from normbench.board import Board, Comparison, Entry, Metric, Pair
from normbench.board.layout import attacks_of, seeds_of
from normbench.studies._stats import together
from normbench.studies._sun2020 import TABLES
from normbench.studies.base import Evidence, Record, Verdict

#: The first norm and the first convolution of the first residual block, of which the paper's figures are.
CONV, NORM = "layer1.0.conv1", "layer1.0.bn1"
WEIGHTS = "weight-norm.raw"
DRIFT = "norm-input"
Column = tuple[str, bool]


@dataclass(frozen=True)
class Ours:
    """One column of the paper's table, as run here."""

    entry: Entry
    records: tuple[Record, ...]

    def seeds(self, *metrics: Metric) -> dict[int, float]:
        """Seed -> value of the first metric, less the second where there is one."""
        return seeds_of((r.run for r in self.records), metrics)


@dataclass(frozen=True)
class Claim:
    """A statement of the paper about one method: what was printed, and the difference here that is above zero where it
    holds.
    """

    text: str
    method: str
    printed: str
    here: Comparison
    percent: bool = True
    gap: float | None = None
    """The printed difference, above zero where the finding holds in print; None where no number is printed."""

    @property
    def in_print(self) -> str:
        """What the print by itself says of it."""
        return "holds, by a curve" if self.gap is None else "holds" if self.gap > 0 else "the opposite"

    @property
    def verdict(self) -> str:
        return {"higher": "holds here", "lower": "the opposite holds here"}.get(self.here.verdict, self.here.verdict)


#: Networks that were trained for less, as in a smoke test, stand beside no printed number.
LEAST_EPOCHS = 5


def printed_dataset(name: str) -> str | None:
    """`cifar10` for `cifar10` and `cifar10-jpeg`: the table that results on a dataset stand beside; None for others."""
    match = re.fullmatch(r"(cifar100?)(-[\w-]+)?", name)
    return match[1] if match else None


def columns_of(found: Evidence, board: Board) -> dict[Column, Ours]:
    """The paper's columns among a board's entries, on whatever data; empty unless two methods have both, with noise and
    BIM. Of several settings of a column, the first.
    """
    if None in attacks_of(board):
        return {}
    by_id = found.by_id
    columns: dict[Column, Ours] = {}
    for entry in board.entries:
        methods = entry.methods[:1] if entry.methods[1:] == ("none",) else entry.methods
        records = tuple(by_id[r.trial_id] for r in entry.runs if r.trial_id in by_id)
        long_enough = entry.spec["train"]["epochs"] >= LEAST_EPOCHS
        if len(methods) == 1 and methods[0] in {"bn", "gn", "ln", "wn"} and records and long_enough:
            columns.setdefault((methods[0], bool(entry.spec["train"]["weight_decay"])), Ours(entry, records))
    both = [m for m in ("bn", "gn", "ln", "wn") if (m, False) in columns and (m, True) in columns]
    return {(m, wd): columns[m, wd] for m in both for wd in (False, True)} if len(both) > 1 else {}


DIFFERENCE = Metric("difference", "clean", "difference")


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Comparison:
    """Not judged yet: see `tested`."""
    return Comparison(DIFFERENCE, tuple(Pair(s, a[s], b[s]) for s in sorted(a.keys() & b.keys())), None)


def accuracy_claims(
    dataset: str | None, columns: Mapping[Column, Ours], clean: Metric, noise: Metric, bim: Metric
) -> Iterable[Claim]:
    """Tables 1 and 2, method by method. dataset: the table that is printed for it; None where there is none."""
    for method in dict.fromkeys(m for m, _ in columns):
        without, with_ = columns[method, False], columns[method, True]
        print_ = None if dataset is None else (TABLES[dataset][method, False], TABLES[dataset][method, True])
        for text, metric, key in (
            ("weight decay raises accuracy under noise", noise, "noise"),
            ("weight decay raises accuracy under BIM", bim, "bim"),
        ):
            gap = print_ and getattr(print_[1], key) - getattr(print_[0], key)
            made = difference(with_.seeds(metric), without.seeds(metric))
            yield Claim(text, method, _points(gap), made, gap=gap)
        for text, other, key in (
            ("weight decay lowers the loss by noise (Acc-Diff1)", noise, "diff1"),
            ("weight decay lowers the loss by BIM (Acc-Diff2)", bim, "diff2"),
        ):
            gap = print_ and getattr(print_[0], key) - getattr(print_[1], key)
            made = difference(without.seeds(clean, other), with_.seeds(clean, other))
            yield Claim(text, method, _points(gap), made, gap=gap)


def _points(gap: float | None) -> str:
    return "–" if gap is None else f"{100 * gap:+.2f}"


def growth_claims(columns: Mapping[Column, Ours]) -> Iterable[Claim]:
    """Figure 3, as factors in octaves: the weight of the first convolution grows, and less with weight decay."""
    for method in dict.fromkeys(m for m, _ in columns):
        without, with_ = (_grown(columns[method, wd]) for wd in (False, True))
        if without:
            nothing = dict.fromkeys(without, 0.0)
            yield Claim(
                "without weight decay the norm of the weights grows (octaves)",
                method,
                "grows (Figure 3)",
                difference(without, nothing),
                percent=False,
            )
            yield Claim(
                "with weight decay it grows less (octaves)",
                method,
                "grows less (Figure 3)",
                difference(without, with_),
                percent=False,
            )


def _grown(ours: Ours) -> dict[int, float]:
    """Seed -> log2 of the norm at the end over that at the start, of the paper's convolution where it was recorded,
    else of all weights.
    """
    found = {}
    for r in ours.records:
        curve = r.curves.get((WEIGHTS, CONV)) or r.curves.get((WEIGHTS, "")) or ()
        if len(curve) > 1 and curve[0][1] > 0 and curve[-1][1] > 0:
            found[r.run.seed] = math.log2(curve[-1][1] / curve[0][1])
    return found


def tested(claims: Sequence[Claim]) -> list[Claim]:
    """The claims, all judged at once; those in octaves among themselves, as they vary on another scale."""
    made = list(claims)
    for percent in (True, False):
        own = [i for i, c in enumerate(claims) if c.percent is percent]
        for i, here in zip(own, together(DIFFERENCE, [claims[i].here.pairs for i in own]), strict=True):
            made[i] = replace(claims[i], here=here)
    return made


def verdict(claims: Sequence[Claim]) -> Verdict:
    said = [c.here.verdict for c in claims]
    if "lower" in said:
        return "no"
    if all(c.here.why for c in claims):
        return "not tested"
    return "yes" if said and set(said) == {"higher"} else "cannot be told"


def gap(a: float, b: float) -> str:
    return f"{100 * (a - b):+.2f}"
