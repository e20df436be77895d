"""A run in a folder of the user's own, which holds files that are called like modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.test_cli import Place

#: Like this package, its source folder, a library that every process imports, and a part of the standard library.
NAMES = ("normbench", "benchmark", "numpy", "types", "torch", "ray")


def test_modules_of_the_working_directory_are_none_of_a_runs(tmp_path: Path, data_dir: Path) -> None:
    command = Path(sys.executable).parent / "bench"
    if not command.is_file():
        pytest.skip("the package is not installed")
    place = Place(tmp_path, data_dir)
    place.suite(norms="bn", seeds=1)
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise ImportError('this is the user\\'s own')\n")
    running = subprocess.Popen(
        [str(command), *place.run_arguments()],
        cwd=tmp_path,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = running.communicate(timeout=280)
    assert running.returncode == 0, said
    assert [(r["status"], r["reason"]) for r in place.store.rows()] == [("ok", "")]
    for temporary in {"/tmp", tempfile.gettempdir()}:
        assert not list(Path(temporary).glob(f"normbench-run-{running.pid}-*")), "nothing stays behind"
        assert not list(Path(temporary).glob(f"ray/session_*_{running.pid}")), "Ray's files are in the run's folder"
    plan = subprocess.run(
        [str(command), "plan", "small.yaml", "--results", "results", "--json"],
        cwd=tmp_path,
        env=place.environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert json.loads(plan.stdout)["cached"] == 1
