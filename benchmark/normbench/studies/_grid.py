"""Batch against width: which trials make a grid, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from normbench.studies._stats import DRAWS, Array, Estimate, Resampled, slope
from normbench.studies.base import Record, grouped, of_spec, varied

Design = Literal["sgd", "norm"]
#: A batch matches a width within this many octaves: half a step of the usual grid of powers of two.
NEAR = 0.5
#: Batch sizes and widths below which there is no grid to speak of.
BATCHES, WIDTHS = 3, 2
#: Widths that a slope needs.
SLOPE = 3
#: A parabola's vertex is no nearer to the best batch than this share of a step of the grid, so the draws move it within
#: that: humps are no parabolas.
VERTEX = 0.25


@dataclass(frozen=True)
class Grid:
    """One method at several batch sizes and widths.

    design `sgd`: the batch of the optimizer is that of the norm; `norm`: the optimizer's batch is fixed, and the norm's
    varies in ghost batches.
    """

    design: Design
    label: str
    records: tuple[Record, ...]
    cells: Mapping[tuple[float, int], tuple[Record, ...]]
    """By width multiplier and batch."""
    channels: Mapping[float, tuple[int, ...]]
    """Of every place of normalization, by width multiplier; without widths at which no network was ever built."""
    chosen: str = ""
    """How learning rates were chosen, where there were several a cell."""

    @cached_property
    def widths(self) -> list[float]:
        return sorted({w for w, _ in self.cells})

    @cached_property
    def batches(self) -> list[int]:
        return sorted({b for _, b in self.cells})

    @property
    def control(self) -> str:
        """Why nothing is claimed of this method; empty where something is."""
        if not any(method.claims.batch_dependent for method in self.records[0].cards):
            return "no statistics of the batch"
        seen = {norm_batch(r) for r in self.records}
        return "the norm's batch stays as it is" if None not in seen and len(seen) < BATCHES else ""

    def values(self, read: Callable[[Record], float | None]) -> Array:
        """A number of every trial: (widths, seeds, batches), NaN where there is none."""
        seeds = sorted({r.run.seed for r in self.records})
        found = np.full((len(self.widths), len(seeds), len(self.batches)), math.nan)
        for (w, b), records in self.cells.items():
            for r in records:
                value = read(r) if r.run.ok else None
                if value is not None:
                    found[self.widths.index(w), seeds.index(r.run.seed), self.batches.index(b)] = value
        return found

    def width(self, multiplier: float, sense: str) -> int | None:
        """Channels of a width: of the `first` stage or of the `widest`."""
        found = self.channels.get(multiplier)
        return None if not found else found[0] if sense == "first" else max(found)

    def matching(self, sense: str) -> dict[int, int]:
        """By index of the width: index of the batch nearest to it, where one lies within half an octave."""
        found = {}
        for i, multiplier in enumerate(self.widths):
            channels = self.width(multiplier, sense)
            if channels:
                distances = [abs(math.log2(b / channels)) for b in self.batches]
                nearest = int(np.argmin(distances))
                if distances[nearest] <= NEAR:
                    found[i] = nearest
        return found


@dataclass(frozen=True)
class Best:
    """The best batch of a width."""

    width: int
    """In channels."""
    batch: int
    """Of the grid."""
    peak: float
    """Of the parabola through its outcome and those of its two neighbours."""
    end: bool
    """Whether it stands at an end of the grid."""


@dataclass(frozen=True)
class Readings:
    """What a grid says about one outcome. None where the grid does not allow it."""

    resampled: Resampled
    neighbours: Estimate | None
    """Outcome at the matching batch less the mean at the next smaller and the next larger one, mean over the widths
    that have all three.
    """
    matched: Estimate | None
    """Outcome at a width's own matching batch less that at the batches that match the other widths, mean over widths:
    what a batch or a width does by itself cancels.
    """
    slope: Estimate | None
    """Of log2(best batch) on log2(width)."""
    offset: Estimate | None
    """log2 of the best batch less log2 of the width, mean over widths."""
    best: tuple[Best, ...]

    @property
    def ends(self) -> int:
        """Widths whose best batch stands at an end of the grid: the best may lie outside."""
        return sum(b.end for b in self.best)

    @property
    def censored(self) -> bool:
        """Whether that is so for half of the widths or more."""
        return self.ends * 2 >= len(self.best)


def read(grid: Grid, resampled: Resampled, sense: str) -> Readings:
    """The contrasts of one outcome, of which more is better, on a grid; `resampled` from its values (`Grid.values`)."""
    matching = grid.matching(sense)
    return Readings(
        resampled, _neighbours(resampled, matching), _matched(resampled, matching), *_best(grid, resampled, sense)
    )


def _neighbours(resampled: Resampled, matching: Mapping[int, int]) -> Estimate | None:
    there = np.isfinite(resampled.means)
    last = resampled.means.shape[1] - 1
    usable = {w: b for w, b in matching.items() if 0 < b < last and there[w, b - 1 : b + 2].all()}
    if not usable:
        return None

    def statistic(means: Array) -> Array:
        found: Array = np.stack(
            [means[..., w, b] - (means[..., w, b - 1] + means[..., w, b + 1]) / 2 for w, b in usable.items()]
        ).mean(0)
        return found

    return resampled.estimate(statistic)


def _matched(resampled: Resampled, matching: Mapping[int, int]) -> Estimate | None:
    there = np.isfinite(resampled.means)
    usable = {
        w: b
        for w, b in matching.items()
        if all(there[w, other] for other in matching.values()) and there[list(matching), b].all()
    }
    if len(set(usable.values())) < WIDTHS or len(set(usable.values())) < len(usable):
        return None

    def statistic(means: Array) -> Array:
        columns = list(usable.values())
        total = sum(
            (
                means[..., w, b] - np.delete(means[..., w, columns], columns.index(b), -1).mean(-1)
                for w, b in usable.items()
            ),
            np.zeros(()),
        )
        found: Array = np.asarray(total) / len(usable)
        return found

    return resampled.estimate(statistic)


def _best(grid: Grid, resampled: Resampled, sense: str) -> tuple[Estimate | None, Estimate | None, tuple[Best, ...]]:
    """Slope of the best batch on the width, how far it is from the width, and the best batches."""
    batches = np.log2(np.array(grid.batches, float))
    there = np.isfinite(resampled.means)
    rows = [
        (i, n)
        for i, w in enumerate(grid.widths)
        if (n := grid.width(w, sense)) is not None and there[i].sum() >= BATCHES
    ]
    if not rows:
        return None, None, ()
    index = [i for i, _ in rows]
    widths = np.log2(np.array([n for _, n in rows], float))
    columns = [np.flatnonzero(there[i]) for i in index]
    jitter = np.random.default_rng(1).uniform(-VERTEX, VERTEX, (DRAWS, len(rows)))

    def where(means: Array) -> Array:
        """(..., rows): log2 of the best batch of each width."""
        found = np.stack([peak(batches[c], means[..., i, c]) for i, c in zip(index, columns, strict=True)], axis=-1)
        return found + jitter * np.diff(batches).mean() if found.ndim == 2 else found  # draws

    shown = []
    for (i, n), c, vertex in zip(rows, columns, where(resampled.means), strict=True):
        best = c[np.argmax(resampled.means[i, c])]
        shown.append(Best(n, grid.batches[best], float(2**vertex), bool(best in (c[0], c[-1]))))
    offset = resampled.estimate(lambda means: (where(means) - widths).mean(-1))
    steep = resampled.estimate(lambda means: slope(widths, where(means))) if len(rows) >= SLOPE else None
    return steep, offset, tuple(shown)


def peak(x: Array, y: Array) -> Array:
    """(...): where the parabola through the largest of y (..., n) and its two neighbours is largest; x (n,) ascends.
    The end itself where an end is largest, NaN where a value is.
    """
    best = np.argmax(y, axis=-1)  # the first NaN, where there is one
    middle = np.clip(best, 1, len(x) - 2)
    low, mid, high = (np.take_along_axis(y, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    rise, fall = (mid - low) / (x[middle] - x[middle - 1]), (high - mid) / (x[middle + 1] - x[middle])
    bend = (fall - rise) / (x[middle + 1] - x[middle - 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = np.where(bend < 0, (x[middle - 1] + x[middle]) / 2 - rise / (2 * bend), x[middle])
    found: Array = np.where(best == middle, vertex, x[best])
    return np.where(np.isnan(y).any(axis=-1), np.nan, found)


def grids(records: Sequence[Record]) -> list[Grid]:
    """The grids among trials of one dataset and architecture."""
    channels: dict[float, tuple[int, ...]] = {}
    for r in records:
        if r.channels:
            channels.setdefault(r.spec["model"]["width"], r.channels)
    made = [*_by_sgd_batch(records, channels), *_by_norm_batch(records, channels)]
    return [g for g in made if len(g.batches) >= BATCHES and len(g.widths) >= WIDTHS]


def _by_sgd_batch(records: Sequence[Record], channels: Mapping[float, tuple[int, ...]]) -> list[Grid]:
    families = grouped(records, of_spec(lambda spec: varied(spec, "batch_size", "model.width", "train.lr")))
    names = [family[0].norm for family in families.values()]
    found = []
    for family in families.values():
        label = (
            family[0].norm if names.count(family[0].norm) == 1 else f"{family[0].norm} · wd {family[0].weight_decay:g}"
        )
        found += _by_rate("sgd", label, family, lambda r: int(r.spec["batch_size"]), channels)
    return found


def norm_batch(record: Record) -> int | None:
    """Images that a batch norm or ghost batch norm takes its statistics of; None for another method."""
    if record.methods not in {("bn",), ("ghost-bn",)}:
        return None
    batch = int(record.spec["batch_size"])
    return batch if record.methods == ("bn",) else min(int(record.spec["norm"][0]["params"]["size"]), batch)


def _by_norm_batch(records: Sequence[Record], channels: Mapping[float, tuple[int, ...]]) -> list[Grid]:
    usable = [r for r in records if norm_batch(r) is not None]
    found = []
    for family in grouped(
        usable, of_spec(lambda spec: varied(spec, "model.width", "norm", "norm_label", "train.lr"))
    ).values():
        cells = grouped(family, lambda r: (r.spec["model"]["width"], norm_batch(r)))
        # Batch norm and ghost batch norm of the whole batch are the same function: one of the two is enough.
        single = tuple(r for cell in cells.values() for r in cell if r.methods == cell[0].methods)
        label = f"ghost-bn · batch {family[0].spec['batch_size']}"
        found += _by_rate("norm", label, single, lambda r: norm_batch(r) or 0, channels)
    return found


def _by_rate(
    design: Design,
    label: str,
    family: Sequence[Record],
    batch: Callable[[Record], int],
    channels: Mapping[float, tuple[int, ...]],
) -> list[Grid]:
    """One grid where every cell has one learning rate or held-out accuracies to choose one by, else one for each
    learning rate.
    """

    def cells(records: Sequence[Record]) -> dict[tuple[float, int], tuple[Record, ...]]:
        return grouped(records, lambda r: (float(r.spec["model"]["width"]), batch(r)))

    by_cell = cells(family)
    if all(len({r.spec["train"]["lr"] for r in cell}) == 1 for cell in by_cell.values()):
        return [Grid(design, label, tuple(family), by_cell, channels)]
    if all(r.validation is not None for r in family if r.run.ok):
        picked = {place: _best_rate(cell) for place, cell in by_cell.items()}
        kept = tuple(r for cell in picked.values() for r in cell)
        return [
            Grid(
                design,
                label,
                kept,
                picked,
                channels,
                "of the learning rates of each cell the one that is best on held-out training images",
            )
        ]
    by_rate = sorted(grouped(family, lambda r: float(r.spec["train"]["lr"])).items())
    return [Grid(design, f"{label} · lr {lr:g}", own, cells(own), channels) for lr, own in by_rate]


def _best_rate(cell: Sequence[Record]) -> tuple[Record, ...]:
    """The trials of the learning rate with the best mean held-out accuracy; a failed trial counts as none right."""
    by_rate = grouped(cell, lambda r: float(r.spec["train"]["lr"]))
    best = max(
        by_rate,
        key=lambda lr: (math.fsum(r.validation or 0.0 for r in by_rate[lr] if r.run.ok) / len(by_rate[lr]), -lr),
    )
    return by_rate[best]
