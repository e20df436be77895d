"""Every bench runs at its smallest size and prints what it promises (`tox -e perf`); nothing here judges how fast."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PERF = Path(__file__).parents[2] / "perf"
#: Not of speed; see `tests/perf/test_coverage.py` and `test_coverage_studies.py`.
STATISTICS = {"coverage.py", "coverage_studies.py"}
BENCHES = sorted(p.name for p in PERF.glob("*.py"))
NEEDS_BROWSER = {"site_scale.py"}
#: Cases that are one time less another: at the smallest size the machine's own unrest is larger than they are, and they
#: may come out below zero.
DIFFERENCES = "overhead a trial"


def test_there_are_benches_and_each_has_its_table() -> None:
    assert len(BENCHES) >= 3
    readme = (PERF / "README.md").read_text()
    assert [name for name in BENCHES if f"## {name}" not in readme] == []


@pytest.mark.perf
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted({*BENCHES} - STATISTICS))
def test_a_bench_runs_at_its_smallest_size(name: str) -> None:
    if name in NEEDS_BROWSER and not shutil.which("chromium"):
        pytest.skip("no chromium")
    done = subprocess.run(
        [sys.executable, str(PERF / name), "--smoke", "--json"], capture_output=True, text=True, cwd=PERF.parent
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert cases
    for case in cases:
        assert {"case", "ours", "peer", "unit", "ratio"} <= set(case)
        assert math.isfinite(case["ratio"])
        assert case["ours"] > 0 or case["case"].startswith(DIFFERENCES)
        assert case["peer"] > 0
