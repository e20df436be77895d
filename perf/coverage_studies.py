"""How often the intervals of studies miss, and how often `batch-width` claims what is not so, on simulated trials.

    python perf/coverage_studies.py [--repeats N] [--smoke] [--json]

Contrasts, by `normbench.studies._stats`: k groups of n seeds with four columns. Spreads are equal, or .2, 1, 3, .2, ...
over the groups; `shared`: a seed's effect on all columns of its group, in standard deviations; else, a tenth of the
cells' seeds are missing or the first column spreads five times as much. `noisiest`: how often the interval of the first
column less the second, in the group that spreads most, holds the truth; `mean`: likewise of that difference's mean over
groups; `hump`: of the mean of the second column less the mean of its neighbours. 95 % are promised. `length`: of the
interval of the mean, over that of Student's with one spread for all groups (which misses where spreads differ).

Batch against width, by `normbench.studies.batch_width`: accuracy falls with the distance from a best batch, by
`height` percentage points at an octave, with noise of .4 points a seed, on the grids of the suites. `spread by width`:
noise of .2, .4 and .8 points in turn over the widths. Truth: the best batch is the same for all widths, goes as the
square root of the width, is the width, twice or four times the width. `slope`: how often its interval holds the truth,
where no best batch stands at an end of the grid; `follows` and `equals`: how often each is answered with yes and with
no; `wrong`: how often wrongly. With a height of 0 no batch is best, and neither follows nor equals the width. The lines
that are printed sum up three shapes and both spreads: means, the least coverage and the most that is wrong; `--json`
has them one by one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
from normbench.studies._grid import Grid, Readings, read
from normbench.studies._stats import Estimate, resample
from normbench.studies.batch_width import equals, follows

Array = npt.NDArray[np.float64]
GROUPS, SEEDS, COLUMNS = (3, 12), (3, 5, 10), 4
SPREADS = {"equal": (1.0,), ".2, 1, 3": (0.2, 1.0, 3.0)}
SHARED = (0.0, 2.0)
OTHER = ("", "a tenth missing", "a noisy column")

#: Batches and multipliers of 64 channels, as `suites/batch_width.yaml` and `suites/batch_width-digits.yaml` have them.
GRIDS = {
    "9 x 4": ((8, 16, 32, 64, 128, 256, 512, 1024, 2048), (0.25, 0.5, 1, 2)),
    "5 x 3": ((4, 8, 16, 32, 64), (0.125, 0.25, 0.5)),
}
#: What accuracy loses at a distance of so many octaves from the best batch, in heights.
SHAPES: dict[str, Callable[[Array], Array]] = {
    "parabola": lambda d: d**2,
    "steep above": lambda d: np.where(d > 0, 2 * d**2 / (1 + 0.5 * np.abs(d)), 0.6 * d**2 / (1 + 0.2 * np.abs(d))),
    "flat top": lambda d: np.abs(d) ** 3,
}
#: log2 of the best batch, by log2 of the width and of the middle width; whether it follows and equals the width.
TRUTHS: dict[str, tuple[Callable[[Array, float], Array], bool, bool]] = {
    "none": (lambda n, middle: np.full_like(n, middle + 0.25), False, False),
    "square root": (lambda n, middle: (n + middle) / 2 + 0.125, True, False),
    "width": (lambda n, middle: n, True, True),
    "2 x width": (lambda n, middle: n + 1, True, False),
    "4 x width": (lambda n, middle: n + 2, True, False),
}
HEIGHTS = (1.0, 0.3, 0.0)
NOISE = 0.4


def contrast(groups: int, seeds: int, spreads: str, shared: float, other: str, repeats: int) -> dict[str, Any]:
    """One line of the first table."""
    generator = np.random.default_rng([groups, seeds, len(spreads), int(shared), len(other)])
    own = np.resize(SPREADS[spreads], groups)
    noisiest = int(np.argmax(own))
    statistics: dict[str, Callable[[Array], Array]] = {
        "noisiest": lambda m: m[..., noisiest, 0] - m[..., noisiest, 1],
        "mean": lambda m: (m[..., 0] - m[..., 1]).mean(-1),
        "hump": lambda m: (m[..., 1] - (m[..., 0] + m[..., 2]) / 2).mean(-1),
    }
    held: dict[str, list[bool]] = {name: [] for name in statistics}
    lengths = []
    for _ in range(repeats):
        values = generator.normal(size=(groups, seeds, COLUMNS)) + shared * generator.normal(size=(groups, seeds, 1))
        values *= own[:, None, None]
        if other == "a noisy column":
            values[:, :, 0] *= 5
        if other == "a tenth missing":
            values[generator.random(values.shape) < 0.1] = np.nan
        made = resample(values)
        found = {name: made.estimate(statistic) for name, statistic in statistics.items()}
        for name, estimate in found.items():
            if estimate is not None and estimate.low is not None:
                held[name].append(estimate.holds(0))
        if not other:
            lengths.append(_length(found["mean"]) / _student(values[:, :, 0] - values[:, :, 1]))
    line = {"groups": groups, "seeds": seeds, "spreads": spreads, "shared": shared, "other": other}
    return line | {k: float(np.mean(v)) for k, v in held.items()} | {"length": float(np.median(lengths or [np.nan]))}


def _length(estimate: Estimate | None) -> float:
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def _student(differences: Array) -> float:
    """Length of the interval of the mean of (groups, seeds) with one spread for all groups."""
    groups, seeds = differences.shape
    error = np.sqrt(differences.var(axis=1, ddof=1).mean() / (groups * seeds))
    return 2 * float(scipy.stats.t.ppf(0.975, groups * (seeds - 1)) * error)


def study(
    grid: str, shape: str, height: float, truth: str, *, uneven: bool, seeds: int, repeats: int
) -> dict[str, Any]:
    """One line of the second table."""
    batches, multipliers = GRIDS[grid]
    made = Grid(
        "sgd", "", (), {(w, b): () for w in multipliers for b in batches}, {w: (round(64 * w),) for w in multipliers}
    )
    widths = np.log2([64 * w for w in made.widths])
    peak, grows, is_width = TRUTHS[truth]
    best = peak(widths, float(widths.mean()))
    mean = -height * SHAPES[shape](np.log2(np.array(batches, float)) - best[:, None])
    noise = NOISE * (np.resize([0.5, 1.0, 2.0], len(widths)) if uneven else np.ones(len(widths)))
    generator = np.random.default_rng(
        [list(GRIDS).index(grid), len(shape), int(10 * height), len(truth), uneven, seeds]
    )
    found: list[Readings] = []
    for _ in range(repeats):
        drawn = generator.normal(size=(len(widths), seeds, len(batches)))
        found.append(read(made, resample(mean[:, None] + noise[:, None, None] * drawn), "first"))
    slope = float(np.polyfit(widths, best, 1)[0])
    told = [r.slope for r in found if r.slope is not None and not r.ends]
    line = {"grid": grid, "shape": shape, "height": height, "spread by width": uneven, "truth": truth}
    line["slope"] = float(np.mean([e.holds(slope) for e in told])) if told and height else None
    for name, answer, right in (("follows", follows, grows), ("equals", equals, is_width)):
        answers = [answer(r) for r in found]
        shares = {a: answers.count(a) / repeats for a in ("yes", "no")}
        line |= {f"{name}: {a}": share for a, share in shares.items()}
        line[f"{name}: wrong"] = shares["no" if right else "yes"]
    return line


def contrasts(*, smoke: bool) -> Iterator[tuple[int, int, str, float, str]]:
    if smoke:
        yield from [(3, 3, s, 2.0, other) for s in SPREADS for other in OTHER]
        return
    yield from ((k, n, s, h, other) for other in OTHER for s in SPREADS for h in SHARED for n in SEEDS for k in GROUPS)


def studies(*, smoke: bool) -> Iterator[tuple[str, str, float, str, bool]]:
    if smoke:
        yield from [("9 x 4", "parabola", 1.0, truth, False) for truth in TRUTHS]
        yield ("9 x 4", "parabola", 0.0, "none", False)
        return
    for grid in GRIDS:
        for height in HEIGHTS:
            # A curve without height has no shape and no truth.
            shapes, truths = (SHAPES, TRUTHS) if height else (["parabola"], ["none"])
            yield from ((grid, s, height, t, u) for s in shapes for u in (False, True) for t in truths)


def summed_up(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the second table by grid, height and truth: see the head of this file."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["grid"], line["height"], line["truth"]), []).append(line)
    found = []
    for (grid, height, truth), own in groups.items():
        made = {"grid": grid, "height": height, "truth": truth}
        for name in list(own[0])[list(own[0]).index("slope") :]:
            values = [line[name] for line in own if line[name] is not None]
            take = min if name == "slope" else max if name.endswith("wrong") else np.mean
            made[name] = float(take(values)) if values else None
        found.append(made)
    return found


def show(title: str, lines: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{title}\n")
    print(f"| {' | '.join(lines[0])} |")
    print("| --- " * len(lines[0]) + "|")
    for line in lines:
        print(f"| {' | '.join(_text(k, v) for k, v in line.items())} |")


#: Columns that are settings and no shares.
WHOLE = {"groups", "seeds", "shared", "height"}


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value != value:
        return "–"
    return f"{value:g}" if name in WHOLE else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--repeats", type=int, default=1000, help="of a line; a quarter of them for batch against width"
    )
    parser.add_argument("--smoke", action="store_true", help="a few lines of at most 100 repeats")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    repeats = min(arguments.repeats, 100) if arguments.smoke else arguments.repeats
    first = [contrast(*setting, repeats) for setting in contrasts(smoke=arguments.smoke)]
    some = max(repeats // 5, min(repeats, 100))
    second = [
        study(grid, shape, height, truth, uneven=uneven, seeds=3, repeats=some)
        for grid, shape, height, truth, uneven in studies(smoke=arguments.smoke)
    ]
    if arguments.json:
        print(json.dumps({"repeats": repeats, "contrasts": first, "batch width": second}))
        return
    show(f"Contrasts, {repeats} repeats a line", first)
    show(f"Batch against width, 3 seeds, {some} repeats of each shape and spread", summed_up(second))


if __name__ == "__main__":
    main()
