"""The committed results as their stored bits have them: read and counted with numpy alone, for tests that find a number
again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
#: What decides how long a network trains, and on which images.
BUDGET = ("train_split", "train_examples", "validation")
COLUMNS = ["suite", "stage", "status", "board", "content", "device_class", "precision", "spec", "norm", "seed"]
BITS = ["clean_outcomes", "test_total", "attacks"]
#: Quantities of the curves that claims are read off.
READ = ("weight-norm.raw", "disturbance.relative")


@dataclass(frozen=True)
class Trial:
    """A stored row, its bits counted."""

    group: tuple[str, ...]
    """What the trials of one board share."""
    suite: str
    spec: dict[str, Any]
    seed: int
    clean: float
    attacks: dict[tuple[str, float], float]
    """Accuracy by attack and size."""
    worst: dict[float, float]
    """Share of images that withstand every attack within L-infinity up to a size."""
    curves: dict[tuple[str, str], list[float]]

    @property
    def decay(self) -> float:
        return float(self.spec["train"]["weight_decay"])

    def growth(self, layer: str = "") -> float:
        """log2 of the norm of the weights at the end over that at the start."""
        curve = self.curves["weight-norm.raw", layer]
        return math.log2(curve[-1] / curve[0])


def count(packed: bytes, total: int) -> int:
    return int(np.unpackbits(np.frombuffer(packed, np.uint8), count=total).sum())


def worst_of(attacks: Sequence[Mapping[str, Any]]) -> dict[float, float]:
    own = [a for a in attacks if a["threat"] == "linf" and a["outcomes"]]
    found = {}
    for size in {a["size"] for a in own}:
        within = [a for a in own if a["size"] <= size]
        if len({a["attack"] for a in within}) > 1:
            bits = np.bitwise_and.reduce([np.frombuffer(a["outcomes"], np.uint8) for a in within])
            found[round(size, 9)] = count(bits.tobytes(), own[0]["total"]) / own[0]["total"]
    return found


def curves_of(column: pa.ListArray) -> list[dict[tuple[str, str], list[float]]]:
    """Values by quantity and layer, in order."""
    found = []
    for i in range(len(column)):
        readings = column[i].values
        if readings is None:
            found.append({})
            continue
        kept = readings.filter(pc.is_in(readings.field("measure"), pa.array(READ)))
        made: dict[tuple[str, str], list[float]] = {}
        for r in sorted(kept.to_pylist(), key=lambda r: r["step"]):
            made.setdefault((r["measure"], r["layer"]), []).append(r["value"])
        found.append(made)
    return found


def stored_trials() -> list[Trial]:
    """Every final trial that ended well."""
    found = []
    for path in sorted((ROOT / "results").rglob("*.parquet")):
        schema = pq.read_schema(path)
        if "clean_outcomes" not in schema.names:
            continue
        table = pq.read_table(path, columns=[*COLUMNS, *BITS, "curves"])
        curves = curves_of(table["curves"].combine_chunks())
        for row, curve in zip(table.drop_columns(["curves"]).to_pylist(), curves, strict=True):
            if row["stage"] != "final" or row["status"] != "ok" or row["clean_outcomes"] is None:
                continue
            total = row["test_total"]
            spec = {k: v for k, v in json.loads(row["spec"]).items() if k != "seed"}
            found.append(
                Trial(
                    (
                        *(str(row[k]) for k in ("board", "content", "device_class", "precision")),
                        *(str(spec["data"][k]) for k in BUDGET),
                        str(spec["train"]["epochs"]),
                    ),
                    row["suite"],
                    spec,
                    row["seed"],
                    count(row["clean_outcomes"], total) / total,
                    {(a["attack"], a["size"]): count(a["outcomes"], a["total"]) / a["total"] for a in row["attacks"]},
                    worst_of(row["attacks"]),
                    curve,
                )
            )
    assert len(found) > 50
    return found


def boards(trials: Sequence[Trial]) -> list[list[list[Trial]]]:
    """Boards, their entries, their seeds."""
    made: dict[tuple[str, ...], dict[str, list[Trial]]] = {}
    for t in trials:
        made.setdefault(t.group, {}).setdefault(json.dumps(t.spec, sort_keys=True), []).append(t)
    return [[sorted(e, key=lambda t: t.seed) for e in entries.values()] for entries in made.values()]


def is_called(entry: Sequence[Trial], label: str) -> bool:
    """Whether `bn · lr 0.3 · wd 0` is this entry's label."""
    norm, *settings = label.split(" · ")
    train = entry[0].spec["train"]
    said = dict(s.rsplit(" ", 1) for s in settings if " " in s)
    paths = {"wd": train["weight_decay"], "lr": train["lr"], "epochs": train["epochs"]}
    return entry[0].spec["norm_label"] == norm and all(k in paths and float(v) == paths[k] for k, v in said.items())


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def pairs(first: Sequence[Trial], second: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Trials of two entries with the same seed: of a suite that is run in part one has more than the other."""
    by_seed = {t.seed: t for t in second}
    return [(t, by_seed[t.seed]) for t in first if t.seed in by_seed]
