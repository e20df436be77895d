"""What the stored bits say of the claims that are read off results, found without the code of the claims. Intervals
come from the rule of the boards.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import yaml
from normbench.board.ranking import differences, rank

from tests.site.stored_bits import ROOT, Trial, boards, mean, pairs

#: Test images of whole datasets.
WHOLE = {"digits": 360, "cifar10-jpeg": 10_000}

Found = tuple[str, float, float, float]
"""Of what, value, low, high."""


def paired(families: Mapping[str, Sequence[float]], factor: float) -> list[Found]:
    """Mean differences with their intervals, all judged at once."""
    made = differences(list(families.values()))
    return [
        (what, factor * d.mean, factor * d.interval.low, factor * d.interval.high)
        for what, d in zip(families, made, strict=True)
        if d.interval
    ]


def printed_columns(board: Sequence[Sequence[Trial]]) -> dict[tuple[str, bool], Sequence[Trial]]:
    """Those of the four methods of the paper's tables that ran without and with weight decay; empty under two."""
    found = {(e[0].spec["norm_label"], e[0].decay > 0): e for e in board}
    both = [m for m in ("bn", "gn", "ln", "wn") if (m, False) in found and (m, True) in found]
    return {(m, d): found[m, d] for m in both for d in (False, True)} if len(both) > 1 else {}


def decay_claims(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    columns = printed_columns(board)
    if not columns or board[0][0].spec["train"]["epochs"] < 5:
        return
    noise, bim = (
        min((key for key in board[0][0].attacks if key[0].partition("[")[0] == kind), key=lambda k: k[1], default=None)
        for kind in ("noise", "bim")
    )
    if noise is None or bim is None:
        return

    def less(value: Any, method: str, *, raised: bool) -> list[float]:
        with_, without = columns[method, True], columns[method, False]
        sign = 1 if raised else -1
        return [sign * (value(a) - value(b)) for a, b in pairs(with_, without)]

    quantities = {
        "decay-noise": (lambda t: t.attacks[noise], True),
        "decay-bim": (lambda t: t.attacks[bim], True),
        "decay-noise-loss": (lambda t: t.clean - t.attacks[noise], False),
        "decay-bim-loss": (lambda t: t.clean - t.attacks[bim], False),
    }
    judged = paired(
        {
            f"{m.upper()} {name}": less(value, m, raised=raised)
            for m in dict.fromkeys(m for m, _ in columns)
            for name, (value, raised) in quantities.items()
        },
        100.0,
    )
    for name in quantities:
        yield name, [(what.split()[0], *rest) for what, *rest in judged if what.split()[1] == name]
    first = "layer1.0.conv1"
    of = first if ("weight-norm.raw", first) in board[0][0].curves else ""
    methods = dict.fromkeys(m for m, _ in columns)
    octaves = {f"{m.upper()} growth-without-decay": [t.growth(of) for t in columns[m, False]] for m in methods}
    octaves |= {
        f"{m.upper()} decay-less-growth": [
            a.growth(of) - b.growth(of) for a, b in pairs(columns[m, False], columns[m, True])
        ]
        for m in methods
    }
    made = paired(octaves, 1.0)
    for name in ("growth-without-decay", "decay-less-growth"):
        yield name, [(what.split()[0], *rest) for what, *rest in made if what.split()[1] == name]


def losses(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    """What the largest size of BIM costs each entry."""
    bims = [k for k in board[0][0].attacks if k[0].partition("[")[0] == "bim"]
    if bims:
        key = max(bims, key=lambda k: k[1])
        families = [[t.clean - t.attacks[key] for t in e if key in t.attacks] for e in board]
        for entry, d in zip(board, differences(families), strict=True):
            if d.interval:
                steps = re.sub(r"bim\[steps=(\d+)\]", r"\1 steps", key[0]).removeprefix("bim")
                label = f"{entry[0].spec['norm_label']} | BIM {steps} {round(255 * key[1])}/255"
                yield (
                    "vulnerable-everywhere",
                    [(label, 100 * d.mean, 100 * d.interval.low, 100 * d.interval.high)],
                )


def data_over_weights(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    data = board[0][0].spec["data"]
    resolution = 1 / (data["test_examples"] or WHOLE[data["dataset"]])
    standings = rank([{t.seed: t.clean for t in e} for e in board], resolution)
    entries = list(zip(board, standings.standings, strict=True))
    for a, mine in entries:
        for b, its in entries:
            norms = a[0].spec["norm_label"], b[0].spec["norm_label"]
            alike = norms[0] == "bn" and norms[1] in {"wn", "cwn", "ws", "sn"} and a[0].decay == b[0].decay
            if alike and mine.interval and its.interval:
                ends = (mine.interval.low - its.interval.high, mine.interval.high - its.interval.low)
                middle = 100 * sum(ends) / 2
                yield "data-over-weights", [(" ".join(norms), middle, 100 * ends[0], 100 * ends[1])]


def fisher(r: float, n: int, *, inflation: float) -> tuple[float, float]:
    half = 1.959964 * inflation / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def places(values: Any) -> Any:
    """Ranks, those of equal values their mean."""
    return np.array([np.mean([np.sum(values < v), np.sum(values <= v) - 1]) for v in values])


def ties(board: Sequence[Sequence[Trial]], robust: Any) -> Iterator[tuple[str, list[Found]]]:
    """Correlations of growth and vulnerability across methods and within them."""
    units = [
        (
            json.dumps(e[0].spec | {"train": e[0].spec["train"] | {"weight_decay": None}}),
            e[0].decay,
            mean([t.growth() for t in e]),
            mean([1 - robust(t) / t.clean for t in e]),
        )
        for e in board
        if all(("weight-norm.raw", "") in t.curves for t in e)
    ]
    least = min((u[1] for u in units), default=0.0)
    across = [u for u in units if u[1] == least]
    paired_ = [u for u in units if sum(v[0] == u[0] for v in units) > 1]
    for where, own, centred in (("across methods without decay", across, False), ("within methods", paired_, True)):
        x, y = np.array([u[2] for u in own]), np.array([u[3] for u in own])
        names = [u[0] for u in own]
        free = len(own) - (len(set(names)) - 1 if centred else 0)
        if free < 5:
            continue
        if centred:
            x, y = (v - np.array([v[[n == m for n in names]].mean() for m in names]) for v in (x, y))
        for name, r in (
            ("Pearson", np.corrcoef(x, y)[0, 1]),
            ("Spearman", np.corrcoef(places(x), places(y))[0, 1]),
        ):
            wider = 1.0 if name == "Pearson" else math.sqrt(1 + r**2 / 2)
            said = f"{name} of growth and vulnerability {where}"
            yield "growth-vulnerability", [(said, float(r), *fisher(float(r), free, inflation=wider))]


def whole(trial: Trial) -> float | None:
    own = trial.curves.get(("disturbance.relative", ""))
    layers = [c[-1] for (name, layer), c in trial.curves.items() if name == "disturbance.relative" and layer]
    return own[-1] if own else mean(layers) if layers else None


def whitening(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    read = {e[0].spec["norm_label"]: [math.log2(v) for t in e if (v := whole(t))] for e in board}
    steps = list(pairwise([m for m in ("bw-pca", "bw-cd", "bw-zca", "bn") if read.get(m)]))
    families = {f"{a} over {b}": [x - y for x, y in zip(read[a], read[b], strict=True)] for a, b in steps}
    for found in paired(families, 1.0):
        yield "snd-order-trained", [found]
    for method in {m.partition("[")[0] for m in read}:
        sized = {
            int(m.partition("group=")[2][:-1]): v for m, v in read.items() if m.startswith(f"{method}[group=") and v
        }
        if len(sized) > 2:
            rise = np.polyfit(np.log2(sorted(sized)), [mean(sized[g]) for g in sorted(sized)], 1)[0]
            yield "snd-groups-trained", [(method, float(rise), math.nan, math.nan)]


def best_batches(trials: Sequence[Trial]) -> list[Found]:
    """Where the parabola through the best batch and its neighbours is largest, on log2 scales, held against the
    channels of the first stage; by the batch of the optimizer and, where that is 64, by that of the norm.
    """
    cells: dict[str, dict[float, dict[int, list[float]]]] = {"bn": {}, "ghost-bn": {}}

    def put(grid: str, t: Trial, batch: int) -> None:
        cells[grid].setdefault(16 * t.spec["model"]["width"], {}).setdefault(batch, []).append(t.clean)

    for t in trials:
        norm, batch = t.spec["norm_label"], t.spec["batch_size"]
        if norm == "bn":
            put("bn", t, batch)
        if batch == 64 and norm.split("[")[0] in {"bn", "ghost-bn"}:
            size = re.search(r"size=(\d+)", norm)
            put("ghost-bn", t, int(size[1]) if size else 16 if norm == "ghost-bn" else 64)
    found = []
    for grid, widths in cells.items():
        peaks = []
        for by_batch in widths.values():
            x, y = np.log2(sorted(by_batch)), [mean(by_batch[b]) for b in sorted(by_batch)]
            best = int(np.argmax(y))
            near = slice(best - 1, best + 2)
            bend, rise, _ = np.polyfit(x[near], y[near], 2) if 0 < best < len(y) - 1 else (-1.0, 2 * x[best], 0.0)
            peaks.append(-rise / (2 * bend))
        channels = np.log2(list(widths))
        found.append((f"slope {grid}", float(np.polyfit(channels, peaks, 1)[0]), math.nan, math.nan))
        found.append((f"over width {grid}", float(np.mean(peaks - channels)), math.nan, math.nan))
    return found


def robust_of(board: Sequence[Sequence[Trial]]) -> Any:
    """The robust accuracy that the suite names; else the worst case at the middle one of its sizes."""
    suite = ROOT / "suites" / f"{board[0][0].suite}.yaml"
    named = (yaml.safe_load(suite.read_text()) if suite.exists() else {}).get("headline")
    sizes = sorted(board[0][0].worst)
    size = round(eval(str(named["size"])), 9) if named else sizes[(len(sizes) - 1) // 2] if sizes else None
    return None if size is None else lambda t: t.worst[size]


def found_in(trials: Sequence[Trial]) -> dict[str, list[Found]]:
    """What the stored bits and curves say, by claim."""
    found: dict[str, list[Found]] = {}
    for board in boards(trials):
        robust = robust_of(board)
        for name, numbers in (
            *decay_claims(board),
            *losses(board),
            *data_over_weights(board),
            *(ties(board, robust) if robust else ()),
            *whitening(board),
        ):
            found.setdefault(name, []).extend(numbers)
    found["batch-equals-width"] = best_batches([t for t in trials if t.suite == "batch_width-digits"])
    return found
