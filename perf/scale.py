"""How the store grows: `bench plan`, `bench status` and `bench board` on 1,000 to 100,000 synthetic trials with 100
curve rows each.

    python perf/scale.py [--smoke] [--json] [--sizes 1000,10000] [--loose]

Each command is a process of its own on a suite whose trials are all stored, compacted unless `--loose`. The peer is the
limit that the project set itself, 3 s for plan and status at 10,000 trials (1,000,000 curve rows); a ratio above 1 is
within it. CPU is processor seconds of the same runs, which other work on the machine changes less than the clock.
`growth` compares seconds a trial at the largest and the smallest size: above 1 is better than linear.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pyarrow as pa
from normbench.lab import data as datasets
from normbench.plan.identity import identity
from normbench.spec.outcome import Reading
from normbench.spec.trial import Trial
from normbench.store.schema import SCHEMA, to_row
from normbench.store.store import Store, compact_name, to_bytes
from normbench.suite import expand, load

from tests.site import synthetic

SIZES = (1_000, 10_000, 100_000)
SMOKE = (60, 120)
#: Trials at which the limit holds, and the limit of each command, in seconds.
STATED = 10_000
LIMITS = {"plan": 3.0, "status": 3.0}
CURVE_ROWS = 100
VERBS = ("plan", "status", "board")
SEEDS = 10
SUITE = """
suite: scale
about: As many trials as the store is timed with.
data: {{dataset: digits, image_size: 16}}
models: [resnet18]
norms: [bn, gn]
batch_sizes: [{batches}]
widths: [0.25]
seeds: {seeds}
train: {{epochs: 5, lr: 0.1}}
attacks:
  - noise: {{std: [0.1, 0.2, 0.4]}}
  - bim: {{eps: [8/255, 16/255, 32/255], steps: 10}}
measures: [weight-norm]
"""


def suite(folder: Path, count: int) -> Path:
    """A suite file of about `count` trials: two norms, ten seeds, the rest batch sizes."""
    path = folder / "scale.yaml"
    batches = max(1, count // (2 * SEEDS))
    path.write_text(SUITE.format(batches=", ".join(str(2 + i) for i in range(batches)), seeds=SEEDS))
    return path


def fill(store: Store, trials: list[Trial], *, loose: bool) -> None:
    """A result for each trial: synthetic outcomes with curves of `CURVE_ROWS` readings."""
    fingerprints = {
        s.dataset: datasets.fingerprint(source)
        for s in [trials[0].data]
        if (source := datasets.locate(s, None, download=False))
    }
    curves = tuple(
        Reading(step=i, epoch=i / 20, measure="weight-norm.raw", layer=f"layer{i % 20}.conv", value=1 + i / 7)
        for i in range(CURVE_ROWS)
    )
    outcome = synthetic.outcome(synthetic.trial("bn"), layers=1).model_copy(update={"curves": curves})
    rows = []
    for trial in sorted(trials, key=lambda t: t.trial_id):
        row = to_row("scale", trial, identity(trial, fingerprints[trial.data.dataset]).to_dict(), outcome)
        if loose:
            store.files.write(f"scale/{trial.trial_id}.parquet", to_bytes(pa.Table.from_pylist([row], schema=SCHEMA)))
        else:
            rows.append(row)
    if not loose:
        chunks = [pa.Table.from_pylist(rows[i : i + 2000], schema=SCHEMA) for i in range(0, len(rows), 2000)]
        content = to_bytes(pa.concat_tables(chunks))
        store.files.write(f"scale/{compact_name(content)}", content)


def measure(count: int, rounds: int, *, loose: bool) -> dict[str, float]:
    """Seconds of each command, the best of `rounds`, and what lies on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path, results = suite(Path(folder), count), Path(folder, "results")
        trials = expand(load(path))
        fill(Store(results), trials, loose=loose)
        found = {
            "trials": float(len(trials)),
            "megabytes": sum(f.stat().st_size for f in results.rglob("*.parquet")) / 1e6,
        }
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        for verb in VERBS:
            times, busy = [], []
            for _ in range(rounds):
                start, before = time.perf_counter(), _cpu()
                command = [sys.executable, "-m", "normbench.cli.main", verb, str(path), "--results", str(results)]
                answer = subprocess.run(command, env=environment, capture_output=True, text=True)
                times.append(time.perf_counter() - start)
                busy.append(_cpu() - before)
                if answer.returncode or (verb != "board" and f"{len(trials)} cached" not in answer.stdout):
                    raise SystemExit(
                        f"bench {verb} answered otherwise than it should: {answer.stdout[:500]}{answer.stderr[-500:]}"
                    )
            found[verb], found[f"{verb} CPU"] = min(times), min(busy)
        return found


def _cpu() -> float:
    """Processor seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a hundred trials, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument("--loose", action="store_true", help="one file a trial, as runs leave them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(int(v) for v in text.split(",")),
        help="numbers of trials, ascending, separated by commas",
    )
    arguments = parser.parse_args()
    sizes = arguments.sizes or (SMOKE if arguments.smoke else SIZES)
    table = {size: measure(size, 1 if arguments.smoke else arguments.rounds, loose=arguments.loose) for size in sizes}
    kind = "loose" if arguments.loose else "compacted"
    cases = [
        {
            "case": f"scale/{verb}, {size} trials, {kind}",
            "ours": round(table[size][verb], 3),
            "peer": limit,
            "unit": "s",
            "ratio": round(limit / table[size][verb], 3),
        }
        for verb, limit in LIMITS.items()
        for size in sizes
        if size <= STATED
    ]
    if sizes[-1] > sizes[0]:
        for verb in VERBS:
            few, many = (1e3 * table[s][verb] / s for s in (sizes[0], sizes[-1]))
            case = f"scale/{verb} growth, {sizes[0]} to {sizes[-1]} trials, {kind}"
            cases.append(
                {
                    "case": case,
                    "ours": round(many, 4),
                    "peer": round(few, 4),
                    "unit": "ms a trial",
                    "ratio": round(few / many, 3),
                }
            )
    if arguments.json:
        for case in cases:
            print(json.dumps(case))
        return
    print(
        "| trials | curve rows | on disk, MB | plan, s (CPU) | status, s (CPU) | board, s (CPU) |\n| ---: "
        + "| ---: " * 5
        + "|"
    )
    for size in sizes:
        at = table[size]
        print(
            f"| {size:,} | {size * CURVE_ROWS:,} | {at['megabytes']:.1f} | "
            + " | ".join(f"{at[v]:.2f} ({at[f'{v} CPU']:.2f})" for v in VERBS)
            + " |"
        )
    for case in cases:
        print(f"{case['case']}: {case['ours']} {case['unit']} (peer {case['peer']}), ratio {case['ratio']}")


if __name__ == "__main__":
    main()
