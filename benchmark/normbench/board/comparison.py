"""Two entries, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from normbench.board.make import CLEAN, _values
from normbench.board.stats import MIN_SEEDS, Interval, discordant, holm, mcnemar, t_interval, t_test
from normbench.board.types import Board, Entry, Metric

#: Adjusted p-values below this tell two methods apart.
ALPHA = 0.05
UNDECIDED = "cannot be told apart"


@dataclass(frozen=True)
class Pair:
    """One seed that both entries have. `p_images`: exact McNemar on the same test images, None where per-image outcomes
    are not at hand.
    """

    seed: int
    a: float
    b: float
    only_a: int | None = None
    only_b: int | None = None
    p_images: float | None = None

    @property
    def difference(self) -> float:
        return self.a - self.b


@dataclass(frozen=True)
class Comparison:
    """Entry `a` minus entry `b` in one metric, over the seeds that both have."""

    metric: Metric
    pairs: tuple[Pair, ...]
    mean: float | None
    """Mean difference; None without a common seed."""
    interval: Interval | None
    """Paired 95 % t-interval of the difference; None under three common seeds."""
    p: float | None
    """Two-sided, of the paired t-test."""
    p_holm: float | None = None
    """Adjusted for all comparisons made with the same reference; None where this is the only one."""

    @property
    def turned(self) -> Comparison:
        """Entry `b` minus entry `a`, without the adjustment, which belongs to one reference."""
        pairs = tuple(replace(p, a=p.b, b=p.a, only_a=p.only_b, only_b=p.only_a) for p in self.pairs)
        interval = self.interval and replace(self.interval, low=-self.interval.high, high=-self.interval.low)
        return Comparison(self.metric, pairs, None if self.mean is None else -self.mean, interval, self.p)

    @property
    def verdict(self) -> str:
        """`higher`, `lower` (a against b) or `cannot be told apart`, with the reason where that is not the data."""
        if not self.pairs:
            return f"{UNDECIDED}: no seed in common"
        if len(self.pairs) < MIN_SEEDS:
            return (
                f"{UNDECIDED}: {len(self.pairs)} {'seed' if len(self.pairs) == 1 else 'seeds'} in common, "
                f"{MIN_SEEDS} needed"
            )
        p = self.p if self.p_holm is None else self.p_holm
        if p is None or p >= ALPHA or self.mean is None:
            return UNDECIDED
        return "higher" if self.mean > 0 else "lower"


def compare(
    rows_a: Iterable[Mapping[str, Any]], rows_b: Iterable[Mapping[str, Any]], metric: Metric = CLEAN
) -> Comparison:
    """Compare the trials of two entries seed by seed. `rows_a`, `rows_b`: as the store gives them, with
    `clean_outcomes` for McNemar's test.
    """
    a, b = _by_seed(rows_a, metric), _by_seed(rows_b, metric)
    pairs = []
    for seed in sorted(a.keys() & b.keys()):
        (value_a, bits_a), (value_b, bits_b) = a[seed], b[seed]
        pair = Pair(seed, value_a, value_b)
        if bits_a and bits_b and len(bits_a) == len(bits_b):
            only_a, only_b = discordant(bits_a, bits_b)
            pair = replace(pair, only_a=only_a, only_b=only_b, p_images=mcnemar(only_a, only_b))
        pairs.append(pair)
    return paired(metric, pairs)


def paired(metric: Metric, pairs: Sequence[Pair]) -> Comparison:
    """The comparison that these pairs make."""
    differences = [p.difference for p in pairs]
    mean = math.fsum(differences) / len(differences) if differences else None
    return Comparison(metric, tuple(pairs), mean, t_interval(differences), t_test(differences))


def compare_entries(a: Entry, b: Entry, metric: Metric) -> Comparison:
    """As `compare`, from a board's cells: without per-image outcomes."""
    values = [{p.seed: p.value for p in e.cells[metric.key].points} if metric.key in e.cells else {} for e in (a, b)]
    return paired(metric, [Pair(s, values[0][s], values[1][s]) for s in sorted(values[0].keys() & values[1].keys())])


def against(board: Board, reference: Entry, metric: Metric) -> list[tuple[Entry, Comparison]]:
    """Every other entry of the board compared with `reference`, p-values adjusted by Holm over them; order of
    `board.standings`.
    """
    others = [e for e in board.standings(metric) if e.id != reference.id]
    return list(zip(others, adjusted([compare_entries(e, reference, metric) for e in others]), strict=True))


def adjusted(made: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons with one reference, with p-values adjusted by Holm over those that have one."""
    p_values = iter(holm([c.p for c in made if c.p is not None]))
    return [c if c.p is None else replace(c, p_holm=next(p_values)) for c in made]


def each_other(entries: Sequence[Entry], metric: Metric) -> dict[tuple[str, str], Comparison]:
    """Every entry with every other, by their ids: the first minus the second, adjusted by Holm over all comparisons
    with the first.
    """
    made: dict[tuple[str, str], Comparison] = {}
    for a, b in combinations(entries, 2):
        made[a.id, b.id] = compare_entries(a, b, metric)
        made[b.id, a.id] = made[a.id, b.id].turned
    for a in entries:
        keys = [(a.id, b.id) for b in entries if b is not a]
        made |= zip(keys, adjusted([made[k] for k in keys]), strict=True)
    return made


def _by_seed(rows: Iterable[Mapping[str, Any]], metric: Metric) -> dict[int, tuple[float, bytes | None]]:
    found = {}
    for row in rows:
        if row["status"] != "ok":
            continue
        values = {m.key: v for m, v in _values(row)}
        if metric.key in values:
            found[row["seed"]] = (values[metric.key], _outcomes(row, metric))
    return found


def _outcomes(row: Mapping[str, Any], metric: Metric) -> bytes | None:
    if metric.group == "clean":
        return row.get("clean_outcomes")
    return next(
        (a["outcomes"] for a in row["attacks"] or [] if a["attack"] == metric.attack and a["size"] == metric.size), None
    )
