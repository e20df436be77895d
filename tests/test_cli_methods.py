"""The verbs that CONTRIBUTING walks through."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark


def _bench(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=250
    )


def test_a_new_method_goes_from_its_template_to_its_check(tmp_path: Path) -> None:
    """In a copy of the package, as a contributor's checkout: written, found, checked, trained for a moment, and broken on purpose."""
    package = tmp_path / "benchmark"
    shutil.copytree(Path(benchmark.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(benchmark.__file__).parents[1] / "suites", tmp_path / "suites")
    (tmp_path / "pyproject.toml").write_text("")
    here = {"PYTHONPATH": str(tmp_path)}
    made = _bench("new", "norm", "mynorm", cwd=tmp_path, **here)
    assert made.returncode == 0, made.stderr
    assert (package / "norms" / "mynorm.py").is_file()
    again = _bench("new", "norm", "mynorm", cwd=tmp_path, **here)
    assert (again.returncode, "mynorm" in again.stderr) == (2, True)
    good = _bench("check", "norm", "mynorm", "--json", cwd=tmp_path, **here)
    assert good.returncode == 0, good.stderr + good.stdout
    assert json.loads(good.stdout)["smoke"]["status"] == "ok"
    text = (package / "norms" / "mynorm.py").read_text()
    assert "batch_dependent=False" in text
    (package / "norms" / "mynorm.py").write_text(text.replace("batch_dependent=False", "batch_dependent=True"))
    bad = _bench("check", "norm", "mynorm", "--no-smoke", "--json", cwd=tmp_path, **here)
    assert bad.returncode == 1
    assert [c["claim"] for c in json.loads(bad.stdout)["claims"] if not c["ok"]] == ["batch_dependent"]


def test_an_audit_says_what_a_swap_does(tmp_path: Path) -> None:
    answer = _bench("audit", "resnet18", "ws+gn", "--width", "0.125", "--image-size", "16", "--json", cwd=tmp_path)
    audit = json.loads(answer.stdout)
    assert len(audit["replaced"]) == len(audit["wrapped"]) == 20
    assert len(audit["scale_invariant"]) == 20
    shown = _bench("audit", "resnet18", "gn", "--width", "0.125", "--image-size", "16", cwd=tmp_path)
    assert "20 norms replaced" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "norm", "Bad Name"], "cannot name a method"),
        (["new", "norm", "bn"], "is called 'bn' already"),
        (["new", "attack", "x"], "expected norm"),
        (["check", "norm", "gm8"], "no norm is called 'gm8'"),
        (["audit", "resnet19", "gn"], "did you mean resnet18"),
        (["audit", "resnet18", "gn", "--stem", "tall"], "expected cifar or native"),
        (["audit", "resnet18", "gn[groups=7]", "--width", "0.125"], "7"),
        (["results", "merge", "nowhere", "here"], "no such folder"),
        (["results", "export", "out", "--results", "empty"], "nothing to export"),
    ],
)
def test_wrong_input_is_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    answer = _bench(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stdout
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
