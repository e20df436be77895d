"""The verbs that CONTRIBUTING walks through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import normbench
import pytest

from tests.command import bench


@pytest.mark.matrix
def test_a_new_method_goes_from_its_template_to_its_check(tmp_path: Path) -> None:
    """In a copy of the package, as a contributor's checkout: written, found, checked, trained for a moment, and broken
    on purpose.
    """
    package = tmp_path / "benchmark" / "normbench"
    shutil.copytree(Path(normbench.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(normbench.__file__).parents[2] / "suites", tmp_path / "suites")
    (tmp_path / "pyproject.toml").write_text("")
    here = {"PYTHONPATH": str(tmp_path / "benchmark")}
    made = bench("new", "norm", "mynorm", cwd=tmp_path, **here)
    assert made.returncode == 0, made.stderr
    assert (package / "norms" / "mynorm.py").is_file()
    again = bench("new", "norm", "mynorm", cwd=tmp_path, **here)
    assert (again.returncode, "mynorm" in again.stderr) == (2, True)
    good = bench("check", "norm", "mynorm", "--json", cwd=tmp_path, **here)
    assert good.returncode == 0, good.stderr + good.stdout
    assert json.loads(good.stdout)["smoke"]["status"] == "ok"
    text = (package / "norms" / "mynorm.py").read_text()
    assert "batch_dependent=False" in text
    (package / "norms" / "mynorm.py").write_text(text.replace("batch_dependent=False", "batch_dependent=True"))
    bad = bench("check", "norm", "mynorm", "--no-smoke", "--json", cwd=tmp_path, **here)
    assert bad.returncode == 1
    assert [c["claim"] for c in json.loads(bad.stdout)["claims"] if not c["ok"]] == ["batch_dependent"]


SUITE = """
suite: mine
about: A test.
data: {dataset: digits, image_size: 16, train_examples: 192, test_examples: 100}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [mynorm]
batch_sizes: [16]
widths: [0.125]
seeds: 1
train: {epochs: 1, lr: 0.05}
attacks: [{bim: {eps: 8/255, steps: 2}}]
limits: {cpu: 1, time: 5m}
"""


@pytest.mark.matrix
def test_results_of_a_new_method_go_from_a_run_to_their_mark(tmp_path: Path) -> None:
    """The section on results, in a copy of the package: run, export, check as CI does, merge results and marks; edited
    code is refused.
    """
    package = tmp_path / "benchmark" / "normbench"
    shutil.copytree(Path(normbench.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("suites", "site"):
        shutil.copytree(
            Path(normbench.__file__).parents[2] / part, tmp_path / part, ignore=shutil.ignore_patterns("build")
        )
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "suites" / "mine.yaml").write_text(SUITE)
    here = {"PYTHONPATH": str(tmp_path / "benchmark")}
    assert bench("new", "norm", "mynorm", cwd=tmp_path, **here).returncode == 0
    run = bench("run", "suites/mine.yaml", "--results", "mine", "--site", "built", cwd=tmp_path, **here)
    assert run.returncode == 0, run.stderr + run.stdout
    assert (
        "copied 1 shard "
        in bench("results", "export", "added", "--norm", "mynorm", "--results", "mine", cwd=tmp_path, **here).stdout
    )
    checked = bench("results", "check", "added", "--mark", "marks", cwd=tmp_path, **here)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert "first 10 steps, whole trial" in checked.stdout
    assert "1 holds, 0 not checked, 0 does not hold" in checked.stdout
    assert "1 added" in bench("results", "merge", "added", "results", cwd=tmp_path, **here).stdout
    assert "1 marks" in bench("results", "merge", "marks", "results", cwd=tmp_path, **here).stdout
    board = bench("board", "suites/mine.yaml", "--results", "results", "--json", cwd=tmp_path, **here)
    assert board.returncode == 0, f"{board.returncode}: {board.stderr}"
    (entry,) = json.loads(board.stdout)[0]["entries"]
    assert entry["level"] == "smoke-reproduced"
    source = package / "norms" / "mynorm.py"
    source.write_text(source.read_text() + "\n\nANOTHER_RULE = 1\n")
    refused = bench("results", "check", "added", "--json", cwd=tmp_path, **here)
    assert refused.returncode == 1
    (told,) = json.loads(refused.stdout)
    assert (told["verdict"], told["reasons"]) == (
        "does not hold",
        ["not of this checkout: normbench.norms.mynorm: source changed"],
    )


def test_an_audit_says_what_a_swap_does(tmp_path: Path) -> None:
    answer = bench("audit", "resnet18", "ws+gn", "--width", "0.125", "--image-size", "16", "--json", cwd=tmp_path)
    audit = json.loads(answer.stdout)
    assert len(audit["replaced"]) == len(audit["wrapped"]) == 20
    assert len(audit["scale_invariant"]) == 20
    shown = bench("audit", "resnet18", "gn", "--width", "0.125", "--image-size", "16", cwd=tmp_path)
    assert "20 norms replaced" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "norm", "Bad Name"], "cannot name a norm"),
        (["new", "norm", "bn"], "is called 'bn' already"),
        (["new", "attak", "x"], "expected norm, attack, measure"),
        (["new", "attack", "bim"], "an attack is called 'bim' already"),
        (["check", "measure", "rnk"], "no measure is called 'rnk'"),
        (["check", "norm", "gm8"], "no norm is called 'gm8'"),
        (["audit", "resnet19", "gn"], "did you mean 'resnet18'"),
        (["audit", "resnet18", "gn", "--stem", "tall"], "expected cifar or native"),
        (["audit", "resnet18", "gn[groups=7]", "--width", "0.125"], "7"),
        (["results", "merge", "nowhere", "here"], "no such folder"),
        (["results", "verify", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["results", "export", "there", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["results", "compact", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["results", "check", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["results", "gc", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["site", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["board", "digits", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["status", "digits", "--results", "nowhere"], "nowhere: there is no such folder"),
        (["results", "export", "out", "--results", "."], "nothing to export"),
        (["results", "check", "nowhere"], "there is no such shard or folder"),
        (["results", "check", "--since", "no-such-commit", "--results", "."], "--since no-such-commit"),
        (["results", "check", ".", "--since", "main"], "exclude each other"),
        (["results", "check", "--data", "nowhere"], "--data nowhere: there is no such folder"),
    ],
)
def test_wrong_input_is_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    answer = bench(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stdout
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
