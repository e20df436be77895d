"""How often boards are wrong, and what they find: the rule of `normbench.board.ranking` on simulated boards.

    python perf/coverage.py [--boards N] [--only METHODS ...] [--keep FILE [--done]] [--smoke] [--json]

The whole table takes more than an hour of one core; with `--keep` each line is written to a file as it ends, and the
same command goes on where it was broken off, until the rule changes: above its lines, the file has the factors that
the rule found on some fixed boards, and lines count while they are still found. `perf/coverage.jsonl` is such a file.

A board has k methods and n seeds. Values are normal around each method's mean, with a seed effect that all methods
share, in units of the methods' standard deviation (the root of the mean variance). `error`: the share of boards, no
method differing from any, on which some pair is told apart; at most .05 is promised. `error, 5 levels`: the share of
boards with methods at five levels, three standard deviations apart, on which some pair of one level is told apart.
`power`: the share of pairs of different levels that are told apart; `power, next`: of levels next to each other.
`overlap`: the same two, error and power, of the rule before this one (unpaired t-intervals that do not overlap).
`known`: power of a rule that knows every variance, which no rule from data alone can be expected to reach.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from normbench.board import rank, t_interval

Array = npt.NDArray[np.float64]
METHODS = (2, 5, 10, 20, 40, 60)
SEEDS = (2, 3, 5, 10)
VARIANCES = ("equal", "4/chi2(4)", "x1..x8")
PAIRING = (0.0, 1.0, 2.0)
#: Further settings, each at 10 and 20 methods, 3 and 5 seeds, equal variances and a seed effect of one: what is
#: done to the values, and the step between two values.
OTHER = ("360 images", "1,000 images", "one failed", "seeds missing")
#: Standard deviations between two levels, and levels.
GAP, LEVELS = 3.0, 5


def spreads(kind: str, methods: int, generator: np.random.Generator) -> Array:
    """(methods,): standard deviations whose mean square is 1, but for 4/chi2(4), where that holds on average only."""
    if kind == "equal":
        return np.ones(methods)
    if kind == "4/chi2(4)":
        return np.sqrt(2 / generator.chisquare(4, methods))
    found = 8.0 ** (np.arange(methods) / max(methods - 1, 1))
    shuffled: Array = generator.permutation(found / np.sqrt(np.mean(found**2)))
    return shuffled


def board(
    methods: int, seeds: int, kind: str, shared: float, other: str, generator: np.random.Generator, *, levels: bool
) -> tuple[list[dict[int, float]], Array, Array, float]:
    """Values by method and seed, each method's level and standard deviation, and the step between two values."""
    own = spreads(kind, methods, generator)
    level = np.arange(methods) % LEVELS if levels else np.zeros(methods, int)
    table = generator.normal(size=(methods, seeds)) * own[:, None] + shared * generator.normal(size=seeds)
    table += GAP * level[:, None]
    step = 0.0
    if other.endswith("images"):
        # One standard deviation is 1 % of the images.
        step = 100 / int(other.removesuffix(" images").replace(",", ""))
        table = np.round(table / step) * step
    if other == "one failed":
        table[0] = GAP * level[0]
    values = [dict(enumerate(map(float, row))) for row in table]
    if other == "seeds missing":
        for row in values[:: max(methods // 3, 2)]:
            del row[int(generator.integers(seeds))]
    return values, level, own, step


def overlap(values: list[dict[int, float]]) -> Array:
    """(pairs,): whether unpaired t-intervals do not overlap."""
    intervals = [t_interval(list(v.values())) for v in values]
    pairs = itertools.combinations(intervals, 2)
    return np.array([a is not None and b is not None and not a.overlaps(b) for a, b in pairs])


def ours(values: list[dict[int, float]], step: float) -> Array:
    """(pairs,): whether the product's rule tells them apart."""
    intervals = [s.interval for s in rank(values, step).standings]
    pairs = itertools.combinations(intervals, 2)
    return np.array([a is not None and b is not None and not a.overlaps(b) for a, b in pairs])


def known(values: list[dict[int, float]], own: Array, draws: Array) -> Array:
    """(pairs,): likewise, where every variance is known: the largest |z| over the pairs that are left, step by step."""
    first, second = np.triu_indices(len(values), 1)
    means = np.array([np.mean(list(v.values())) for v in values])
    errors = own / np.sqrt([len(v) for v in values])
    scale = np.hypot(errors[first], errors[second])
    drawn = draws[:, : len(values)] * errors
    sizes = np.abs(drawn[:, first] - drawn[:, second]) / scale
    found, live = np.abs(means[first] - means[second]) / scale, np.ones(len(first), bool)
    while True:
        left = live & (found <= np.quantile(sizes[:, live].max(axis=1), 0.95))
        if not left.any() or (left == live).all():
            return ~left
        live = left


def cell(methods: int, seeds: int, kind: str, shared: float, other: str, boards: int) -> dict[str, Any]:
    """One line of the table."""
    generator = np.random.default_rng([2026, methods, seeds, VARIANCES.index(kind), int(shared), len(other)])
    wrong = {"error": 0, "overlap error": 0, "error, 5 levels": 0}
    power: dict[str, list[float]] = {"power": [], "power, next": [], "overlap power": [], "known": []}
    for _ in range(boards):
        values, _, _, step = board(methods, seeds, kind, shared, other, generator, levels=False)
        wrong["error"] += bool(ours(values, step).any())
        wrong["overlap error"] += bool(overlap(values).any())
    first, second = np.triu_indices(methods, 1)
    draws = np.random.default_rng(0).normal(size=(1000, methods))
    some = max(boards // 10, min(boards, 20))
    for _ in range(some):
        values, level, own, step = board(methods, seeds, kind, shared, other, generator, levels=True)
        apart, distance = ours(values, step), np.abs(level[first] - level[second])
        wrong["error, 5 levels"] += bool(apart[distance == 0].any())
        power["power"].append(apart[distance > 0].mean())
        power["power, next"].append(apart[distance == 1].mean())
        power["overlap power"].append(overlap(values)[distance > 0].mean())
        if not other and seeds > 2:
            power["known"].append(known(values, own, draws)[distance > 0].mean())
    shares = {k: v / (some if k == "error, 5 levels" else boards) for k, v in wrong.items()}
    means = {k: float(np.mean(v)) if v else None for k, v in power.items()}
    return {"methods": methods, "seeds": seeds, "variances": kind, "pairing": shared, "other": other, **shares, **means}


def settings(*, smoke: bool) -> Iterator[tuple[int, int, str, float, str]]:
    """methods, seeds, variances, size of the seed effect and what else is done."""
    if smoke:
        yield from [(2, 2, "equal", 1.0, ""), (5, 3, "x1..x8", 1.0, ""), (20, 3, "equal", 1.0, "")]
        yield from [(5, 5, "equal", 1.0, other) for other in OTHER]
        return
    yield from ((k, n, v, p, "") for v in VARIANCES for p in PAIRING for n in SEEDS for k in METHODS)
    yield from ((k, n, "equal", 1.0, other) for other in OTHER for n in (3, 5) for k in (10, 20))


COLUMNS = ("error", "error, 5 levels", "power", "power, next", "known", "overlap error", "overlap power")
SETTING = ("methods", "seeds", "variances", "pairing", "other")


def factors() -> list[float]:
    """What the rule finds on a board of each setting of 2, 5 and 20 methods with 3 seeds or more: another rule finds
    other factors.
    """
    generator = np.random.default_rng(7)
    found = []
    for setting in settings(smoke=False):
        if setting[0] in (2, 5, 20) and setting[1] > 2:
            values, _, _, step = board(*setting, generator, levels=True)
            found.append(round(rank(values, step).factor, 6))
    return found


def kept(file: Path | None, boards: int) -> tuple[dict[tuple[Any, ...], dict[str, Any]], bool]:
    """Lines of this rule and this many boards that an earlier call wrote, by setting, and whether a line added now
    would count as one of this rule; one that was broken off is left out.
    """
    found, counts, rule = {}, False, factors()
    for text in file.read_text("utf-8").splitlines() if file and file.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "rule" in line:
            counts = len(line["rule"]) == len(rule) and np.allclose(line["rule"], rule, rtol=1e-5)
        elif counts and line.pop("boards") == boards:
            found[tuple(line[key] for key in SETTING)] = line
    return found, counts


def shown(line: dict[str, Any]) -> str:
    """A line of the table."""
    numbers = ("–" if line[c] is None else f"{line[c]:.3f}" for c in COLUMNS)
    setting = (*(line[key] for key in SETTING[:3]), f"{line['pairing']:g}", line["other"] or "–")
    return f"| {' | '.join([*map(str, setting), *numbers])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--boards", type=int, default=2000, help="boards a line; a tenth of them for power")
    parser.add_argument("--smoke", action="store_true", help="a few lines of 60 boards")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=int, nargs="*", help="just these numbers of methods")
    parser.add_argument("--done", action="store_true", help="only lines that the file of --keep has")
    parser.add_argument("--keep", type=Path, help="file of lines, one JSON object each: read, and added to")
    arguments = parser.parse_args()
    boards = 60 if arguments.smoke else arguments.boards
    chosen = [s for s in settings(smoke=arguments.smoke) if not arguments.only or s[0] in arguments.only]
    (done, counts), lines = kept(arguments.keep, boards), []
    if not arguments.json:
        print("| methods | seeds | variances | seed effect | else |", *(f"{c} |" for c in COLUMNS))
        print("| --- " * (5 + len(COLUMNS)) + "|")
    for place, setting in enumerate(chosen, 1):
        line = done.get(setting)
        if line is None and arguments.done:
            continue
        if line is None:
            print(f"{place} of {len(chosen)}: {', '.join(map(str, setting))}", file=sys.stderr)
            line = cell(*setting, boards)
            if arguments.keep:
                with arguments.keep.open("a", encoding="utf-8") as file:
                    if not counts:
                        file.write(json.dumps({"rule": factors()}) + "\n")
                        counts = True
                    file.write(json.dumps({"boards": boards, **line}) + "\n")
        lines.append(line)
        if not arguments.json:
            print(shown(line), flush=True)
    if arguments.json:
        print(json.dumps({"boards": boards, "lines": lines}))


if __name__ == "__main__":
    main()
