"""What a trial costs beyond its own work: 32 trivial trials by `bench run` against the same calls in a plain loop, in
one run.

    python perf/overhead.py [--smoke] [--json]

A trivial trial trains the smallest network for one epoch on 64 of the digits. `own` is the sum of the trials' wall
times in the plain loop; `bench run` has one place (`--jobs 1`), so that nothing runs side by side and hides what the
machinery costs. The time to the first trial is from the start of the command, with bytecode and files in their caches
(one run before is thrown away).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SUITE = """suite: trivial
data: {{dataset: digits, train_examples: 64, test_examples: 16}}
models: [resnet10t]
norms: [bn]
batch_sizes: [32]
widths: [0.125]
seeds: {seeds}
train: {{epochs: 1, lr: 0.1}}
limits: {{gpu: 0, cpu: 1, time: 2m}}
"""

LOOP = """
import sys, time, json
from normbench.suite import expand, load
trials = expand(load(sys.argv[1]))
from normbench.lab import data
from normbench.lab.trial_run import Context, run
source = data.locate(trials[0].data, None, download=False)
context = Context(data_dir=None, fingerprint=data.fingerprint(source))
run(trials[0], context, lambda _: None)  # imports and caches are warm from here on
started = time.perf_counter()
outcomes = [run(t, context, lambda _: None) for t in trials]
assert all(o.status == "ok" for o in outcomes), outcomes[0].log
print(json.dumps({"loop": time.perf_counter() - started}))
"""


def python(*arguments: str) -> tuple[float, str]:
    """Wall seconds and output of a process of its own."""
    started = time.perf_counter()
    # Where Python may not keep bytecode, imports never get warm: torch, timm and what they load are compiled again in
    # every process, which takes 10 s and more.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(arguments)[:200]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took, done.stdout


def bench_run(suite: Path, folder: Path) -> tuple[float, list[dict[str, Any]], float]:
    """Wall seconds of `bench run` with nothing cached, the rows, and the Unix time at which it was started."""
    from normbench.store.store import Store

    began = time.time()
    took, _ = python(
        "-m",
        "normbench.cli.main",
        "run",
        str(suite),
        "--results",
        str(folder / "results"),
        "--site",
        str(folder / "site"),
        "--jobs",
        "1",
    )
    rows = sorted(
        Store(folder / "results").rows(columns=["started", "wall_seconds", "status"]), key=lambda r: r["started"]
    )
    return took, rows, began


def measure(trials: int, *, warm: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="normbench-overhead-") as name:
        folder = Path(name)
        suite = folder / "trivial.yaml"
        suite.write_text(SUITE.format(seeds=1))
        if warm:
            bench_run(suite, folder / "warm")
        suite.write_text(SUITE.format(seeds=trials))
        helped = min(python("-m", "normbench.cli.main", "--help")[0] for _ in range(3))
        bare = min(python("-c", "pass")[0] for _ in range(3))
        loop = json.loads(python("-c", LOOP, str(suite))[1].splitlines()[-1])["loop"]
        took, rows, began = bench_run(suite, folder / "run")
    assert len(rows) == trials
    assert {r["status"] for r in rows} == {"ok"}
    first = rows[0]["started"].timestamp() - began
    running = rows[-1]["started"].timestamp() + rows[-1]["wall_seconds"] - rows[0]["started"].timestamp()
    return [
        {
            "case": f"{trials} trials, from the first one's start to the last one's end",
            "ours": running,
            "peer": loop,
            "unit": "s",
            "ratio": loop / running,
        },
        {"case": f"{trials} trials, the whole command", "ours": took, "peer": loop, "unit": "s", "ratio": loop / took},
        {
            "case": "overhead a trial (limit 0.25 s)",
            "ours": (running - loop) / trials,
            "peer": 0.25,
            "unit": "s",
            "ratio": 0.25 * trials / (running - loop),
        },
        {"case": "time to the first trial (limit 8 s)", "ours": first, "peer": 8.0, "unit": "s", "ratio": 8.0 / first},
        {
            "case": "bench --help, against an empty Python",
            "ours": helped,
            "peer": bare,
            "unit": "s",
            "ratio": bare / helped,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="two trials: that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    given = parser.parse_args()
    for row in measure(2 if given.smoke else 32, warm=not given.smoke):
        print(
            json.dumps(row)
            if given.json
            else f"{row['case']:<70} {row['ours']:8.3f} {row['unit']}   against {row['peer']:8.3f}   "
            f"{row['ratio']:6.2f}x"
        )


if __name__ == "__main__":
    main()
