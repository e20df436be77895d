"""What fuzzed commands need beside their case: a dataset, and good rows to spoil."""

from __future__ import annotations

from pathlib import Path

from normbench import norms
from normbench.plan.plan import make
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from normbench.store.store import Store

from tests.conftest import stripes, write_split
from tests.fuzz.harness import Bench
from tests.store.samples import outcome, rows


def bench_in(folder: Path) -> Bench:
    """A folder for cases, with a small dataset and the rows of two trials."""
    data = folder / "data"
    for split, count, seed in (("train", 96, 0), ("test", 48, 1)):
        write_split(data / "stripes" / f"{split}.parquet", *stripes(count, seed), names=["left", "right", "top"])
    label, components = norms.resolve("bn")
    trials = [
        Trial(
            data=DataSpec(dataset="stripes", image_size=16),
            model=ModelSpec(name="resnet18", width=0.125, kwargs={"layers": [1, 1, 1, 1]}),
            norm=components,
            norm_label=label,
            batch_size=4,
            seed=seed,
            train=TrainSpec(epochs=1, lr=0.05),
        )
        for seed in range(2)
    ]
    store = Store(folder / "good")
    for item in make("s", trials, store, data).items:
        store.write("s", item.trial, item.identity.to_dict(), outcome())
    made = tuple(row | {"robustness": [], "health": []} for row in rows(store))
    return Bench(folder, data, made)
