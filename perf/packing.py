"""Cores or a GPU to trials: so many trials side by side, against one after the other; wall time, in one run.

    python perf/packing.py [--smoke] [--json] [--device cpu]

On a CPU as many trials as there are cores, with one thread each, against one with all threads. On a GPU (`--device
cuda`) 2, 4 and 8 at once, as with `limits: {gpu: 0.5}` and so on, against one that has it alone. Each trial runs as
`bench run` runs it, in a child of a fork server. What a trial computes does not depend on its company; that the two
ways end in the same numbers up to rounding is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from normbench import norms
from normbench.lab import data as datasets
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial

BATCHES = (8, 32, 128)
LIMIT = 1800.0


def trials(count: int, batch: int, examples: int | None, width: float) -> list[Trial]:
    label, components = norms.resolve("bn")
    return [
        Trial(
            data=DataSpec(dataset="digits", image_size=16, train_examples=examples),
            model=ModelSpec(name="resnet18", width=width),
            norm=components,
            norm_label=label,
            batch_size=batch,
            seed=seed,
            train=TrainSpec(epochs=1, lr=0.05),
        )
        for seed in range(count)
    ]


def run(todo: list[Trial], *, at_once: int, threads: int, device: str) -> tuple[float, list[Outcome]]:
    """Wall seconds of all, and how they ended."""
    source = datasets.locate(todo[0].data, None, download=False)
    assert source is not None
    context = {"data_dir": None, "fingerprint": datasets.fingerprint(source), "threads": threads, "device": device}
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        ended = list(pool.map(lambda t: supervise(Job(t.model_dump_json(), context, LIMIT), lambda _: None), todo))
    took = time.perf_counter() - started
    assert all(o.status == "ok" for o in ended), [o.reason for o in ended]
    return took, ended


def measure(batch: int, width: float, at_once: int, *, device: str, smoke: bool) -> dict[str, Any]:
    """`at_once` trials side by side against one at a time."""
    alone = (
        at_once if device == "cpu" else 1
    )  # threads of a trial that has the machine to itself; on a GPU the host has little to do
    todo = trials(at_once * (1 if smoke else 2), batch, 128 if smoke else None, width)
    run(
        todo[:1], at_once=1, threads=1, device=device
    )  # starts the fork server, and leaves compiled code for the others
    beside, one = run(todo, at_once=at_once, threads=1, device=device)
    after, other = run(todo, at_once=1, threads=alone, device=device)
    apart = max(abs((a.train_loss or 0) - (b.train_loss or 0)) for a, b in zip(one, other, strict=True))
    return {
        "case": f"{device}, resnet18 x{width:g}, batch {batch}: {len(todo)} trials, {at_once} side by side against "
        f"one with {alone} thread{'s' * (alone > 1)}",
        "ours": beside,
        "peer": after,
        "unit": "s",
        "ratio": after / beside,
        "loss_apart": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one small case: that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    companies, widths = ((os.cpu_count() or 1,), (0.125, 0.5)) if given.device == "cpu" else ((2, 4, 8), (0.25, 1.0))
    cases = (
        [(0.125, 32, companies[0])] if given.smoke else [(w, b, n) for w in widths for b in BATCHES for n in companies]
    )
    for width, batch, at_once in cases:
        row = measure(batch, width, at_once, device=given.device, smoke=given.smoke)
        print(
            json.dumps(row)
            if given.json
            else f"{row['case']:<95} {row['ours']:7.1f} against {row['peer']:7.1f} {row['unit']}   {row['ratio']:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
