"""What trials will fail at is said by the plan, and by a run before it trains."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from normbench.plan.foreseen import foreseen
from normbench.spec.trial import Component

from tests.command import bench
from tests.conftest import MakeTrial

CORRUPTED = {"name": "cifar10-c", "params": {"severity": [1], "kinds": ["fog", "snow"]}}


def test_a_package_and_files_that_are_not_there_are_named(
    tmp_path: Path, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks = (Component(name="autoattack"), Component(**CORRUPTED), Component(name="bim"))
    trials = [make_trial().model_copy(update={"attacks": attacks, "seed": seed}) for seed in range(2)]
    monkeypatch.setitem(sys.modules, "pyautoattack", None)  # as if it were not installed
    package, files = foreseen(trials, tmp_path)
    assert package == "autoattack needs the package pyautoattack: install normbench[autoattack] (2 trials)"
    assert str(tmp_path / "CIFAR-10-C" / "fog.npy") in files
    assert files.endswith("found no such file (2 trials)")

    (tmp_path / "CIFAR-10-C").mkdir()
    for name in ("fog", "snow", "labels"):
        np.save(tmp_path / "CIFAR-10-C" / f"{name}.npy", np.zeros(1))
    assert foreseen(trials[:1], tmp_path) == (package.replace("2 trials", "1 trial"),)
    assert foreseen([make_trial()], tmp_path) == ()


def test_the_command_says_it(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "suite: s\ndata: {dataset: stripes}\nmodels: [resnet18]\nnorms: [bn]\nbatch_sizes: 8\nwidths: 0.125\nseeds: 2\n"
        "train: {epochs: 1}\nattacks: [{cifar10-c: {severity: 1, kinds: [fog]}}]\n"
    )
    shown = bench("plan", "s.yaml", "--data", str(data_dir), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "missing: cifar10-c: expected " in shown.stdout
    assert "(2 trials)" in shown.stdout
    made = json.loads(bench("plan", "s.yaml", "--data", str(data_dir), "--json", cwd=tmp_path).stdout)
    assert len(made["foreseen"]) == 1
