"""The commands that a trial's page shows, run as they stand there: a clone, an environment of its own, the trial."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import normbench
import pytest
from normbench.plan.origin import REPOSITORY
from normbench.store.store import Store

ROOT = Path(normbench.__file__).parents[2]


def git(*arguments: str, cwd: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.faults
def test_the_commands_of_a_trial_reproduce_it_from_a_fresh_checkout(tmp_path: Path) -> None:
    """Of this commit: what is not committed has no part in it. The web address of the repository is the checkout's
    here, through the setting of git that replaces the beginning of addresses.
    """
    address = "https://example.org/normbench"
    settings = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf", "GIT_CONFIG_VALUE_0": address}
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(ROOT), str(clone))
    environment = {k: v for k, v in os.environ.items() if k not in {"BENCH_RESULTS", "VIRTUAL_ENV"}}
    environment |= settings | {"BENCH_CACHE": str(tmp_path / "cache"), REPOSITORY: address}
    built = environment | {"PYTHONPATH": str(clone / "benchmark")}
    command = [sys.executable, "-m", "normbench.cli.main", "site", "--only", "digits", "--out", str(tmp_path / "site")]
    subprocess.run(command, cwd=clone, env=built, check=True, capture_output=True)

    rows = Store(ROOT / "results").table(["digits"], ["trial_id", "status"]).to_pylist()
    trial = min(r["trial_id"] for r in rows if r["status"] == "ok")
    page = (tmp_path / "site" / "trials" / f"{trial}.html").read_text(encoding="utf-8")
    commands = html.unescape(re.search(r'<pre [^>]*id="commands"><code>(.*?)</code>', page, re.S)[1])
    assert f"git checkout {git('rev-parse', 'HEAD')}" in commands.splitlines()

    (tmp_path / "empty").mkdir()
    without = {k: v for k, v in environment.items() if k != "PYTHONPATH"}
    script = ["bash", "-euxc", f"{commands} --json"]
    done = subprocess.run(script, cwd=tmp_path / "empty", env=without, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["trial_id"] == trial
    assert told["verdict"] == "holds"
    assert told["compared"]
