"""Cores or a GPU to trials: so many trials side by side, or together, against one after the other; wall time, in one
run.

    python perf/packing.py [--smoke] [--json] [--device cpu]

On a CPU as many trials as there are cores, with one thread each, against one with all threads. On a GPU (`--device
cuda`) 2, 4 and 8 at once, as with `limits: {gpu: 0.5}` and so on, against one that has it alone. `together` is that of
the limits: their steps are computed as one. Each trial runs as `bench run` runs it, in a child of a fork server. How
far the losses are apart in the end stands in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from normbench import norms
from normbench.lab import data as datasets
from normbench.runner.worker import Job, supervise_all
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


def run(
    todo: list[Trial], *, at_once: int, threads: int, device: str, together: bool = False
) -> tuple[float, list[Outcome]]:
    """Wall seconds of all, and how they ended. together: `at_once` in one process, with their steps as one."""
    source = datasets.locate(todo[0].data, None, download=False)
    assert source is not None
    context = {"data_dir": None, "fingerprint": datasets.fingerprint(source), "threads": threads, "device": device}
    jobs = [Job(t.model_dump_json(), context, LIMIT) for t in todo]
    parts = [jobs[k : k + at_once] for k in range(0, len(jobs), at_once)] if together else [[job] for job in jobs]

    def supervised(part: list[Job]) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        supervise_all(part, lambda *_: None, found.__setitem__)
        return [found[which] for which in range(len(part))]

    started = time.perf_counter()
    with ThreadPoolExecutor(1 if together else at_once) as pool:
        ended = [outcome for part in pool.map(supervised, parts) for outcome in part]
    took = time.perf_counter() - started
    assert all(o.status == "ok" for o in ended), [o.reason for o in ended]
    return took, ended


def measure(batch: int, width: float, at_once: int, *, device: str, smoke: bool) -> Iterator[dict[str, Any]]:
    """`at_once` trials side by side, and together, against one at a time."""
    # Threads of a trial that has the machine to itself; on a GPU the host has little to do.
    alone = at_once if device == "cpu" else 1
    todo = trials(at_once * (1 if smoke else 2), batch, 128 if smoke else None, width)
    # This starts the fork server, and leaves compiled code for the others.
    run(todo[:1], at_once=1, threads=1, device=device)
    after, expected = run(todo, at_once=1, threads=alone, device=device)
    for how, together, threads in (("side by side", False, 1), ("together", True, alone)):
        took, found = run(todo, at_once=at_once, threads=threads, device=device, together=together)
        yield {
            "case": f"{device}, resnet18 x{width:g}, batch {batch}: {len(todo)} trials, {at_once} {how} against one "
            f"with {alone} thread{'s' * (alone > 1)}",
            "ours": took,
            "peer": after,
            "unit": "s",
            "ratio": after / took,
            "loss_apart": max(
                abs((a.train_loss or 0) - (b.train_loss or 0)) for a, b in zip(found, expected, strict=True)
            ),
            "engine": sorted({str(o.provenance["engine"]) for o in found}),
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
        for row in measure(batch, width, at_once, device=given.device, smoke=given.smoke):
            text = f"{row['case']:<95} {row['ours']:7.1f} against {row['peer']:7.1f} s   {row['ratio']:.2f}x"
            print(json.dumps(row) if given.json else text, flush=True)


if __name__ == "__main__":
    main()
