"""What is known of a suite before anything is trained."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from normbench.plan.paces import Paces
from normbench.plan.plan import make
from normbench.runner.session import announce
from normbench.spec.outcome import Outcome, Status
from normbench.spec.tuning import with_settings
from normbench.store.store import Store
from normbench.suite import SuiteError, expand, load, searches

from tests.cli.conftest import Bench
from tests.site import synthetic

SUITE = """suite: mine
about: A test.
data:
  dataset:
    - digits
    - {dataset}
  image_size: 16
models: [resnet18]
norms: [bn]
batch_sizes: [16]
widths: [0.25]
seeds: 1
train: {{epochs: 1, lr: 0.05}}
"""
TUNED = """suite: mine
about: A test.
data: {dataset: digits}
models: [resnet18]
norms: [bn]
batch_sizes: [64]
widths: [1]
seeds: 1
train: {epochs: 10}
tune: {lr: [0.1, 0.05, 0.01]}
"""


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("{dataset}", "digitz", 6),
        ("  dataset:\n    - digits\n    - {dataset}\n", "  dataset: digitz\n", 4),
        ("{dataset}\n", "digits\n  test_split: a/b\n", 7),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run", "status"])
def test_what_is_wrong_with_data_names_file_and_line(
    shown: Bench, tmp_path: Path, before: str, after: str, line: int, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normbench.runner.spawn.running", lambda: nullcontext({}))
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.replace(before, after).replace("{{", "{").replace("}}", "}"))
    (tmp_path / "results").mkdir()
    with pytest.raises(SuiteError, match=rf"^{re.escape(str(path))}:{line}: .*(digitz|a/b)"):
        shown(verb, str(path), "--results", str(tmp_path / "results"))


def test_data_that_is_not_here_is_told(shown: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(dataset="svhn"))
    text = shown("plan", str(path), "--results", str(tmp_path / "results"))
    assert "mine: 2 trials (2 missing)" in text
    assert "data: svhn is not on this machine: bench run fetches it; --data or BENCH_DATA names a folder" in text
    one = shown("plan", str(path), "--results", str(tmp_path / "results"), "--only", "dataset=digits")
    assert one.startswith("mine: 1 trial (1 missing)\n")
    assert "not on this machine" not in one


def stored(root: Path, suite: str, epochs: int, seconds: float, *, norm: str = "bn", width: float = 1.0) -> Store:
    """A folder with two trials that took so long."""
    store = Store(root)
    for seed in range(2):
        trial = synthetic.trial(norm, seed, epochs=epochs, width=width)
        outcome = synthetic.outcome(trial).model_copy(update={"wall_seconds": seconds})
        store.write(suite, trial, synthetic.identity(trial), outcome)
    return store


def test_both_phases_are_judged_by_trials_of_other_suites(tmp_path: Path) -> None:
    store = stored(tmp_path / "r", "other", epochs=5, seconds=10.0)
    stored(tmp_path / "r", "narrow", epochs=5, seconds=99.0, width=0.5)
    (tmp_path / "mine.yaml").write_text(TUNED)
    suite = load(tmp_path / "mine.yaml")
    plan = make(suite.name, [], store, None, searches=searches(suite))
    assert plan.estimates == {"candidates": 3 * 20.0, "final": 20.0}
    assert plan.estimate == 80.0
    assert plan.judged_by == {"other": 2}
    assert announce(plan) == (
        "mine: 3 candidates, 1 final trial after tuning (3 missing, 1 waiting); about 1 min 00 s of trial time for "
        "candidates and 20 s for final trials, judged by 2 stored trials (other)"
    )


def test_own_trials_come_before_those_of_others(tmp_path: Path) -> None:
    store = stored(tmp_path, "other", epochs=5, seconds=10.0)
    stored(tmp_path, "mine", epochs=1, seconds=7.0)
    paces = Paces(store, "mine", store.rows(["mine"]))
    assert paces.estimate(synthetic.trial("gn", epochs=3)) == 21.0
    assert paces.judged_by == {"mine": 2}


@pytest.mark.parametrize("other", [{"width": 0.5}, {"dataset": "cifar10"}, {"model": "resnet34"}])
def test_other_shapes_tell_nothing(tmp_path: Path, other: dict) -> None:
    paces = Paces(stored(tmp_path, "other", epochs=5, seconds=10.0), "mine", [])
    assert paces.estimate(synthetic.trial("bn", **other)) is None
    assert paces.judged_by == {}


def test_the_committed_suites_stay_cached(shown: Bench) -> None:
    for name in ("digits", "digits-tuned"):
        suite = load(name)
        total = len(expand(suite)) + sum(len(s.finals) for s in searches(suite))
        assert f"({total} cached)" in shown("plan", name)


def test_cleaning_a_tuned_suite_keeps_what_it_may_ask_for(shown: Bench, tmp_path: Path) -> None:
    """Of `bn` the search has ended: final trials are those of the best rate. Of `gn` it has not: any rate may win."""
    path, store = tmp_path / "mine.yaml", Store(tmp_path / "results")
    path.write_text(TUNED.replace("norms: [bn]", "norms: [bn, gn]"))
    bn, gn = searches(load(str(path)))
    given = {
        **{f"bn, candidate at {c.train.lr:g}": c for c in bn.candidates},
        **{f"gn, candidate at {c.train.lr:g}": c for c in gn.candidates[1:]},
        **{
            f"{search.label}, final at {rate:g}": with_settings(trial, (("lr", rate),))
            for search in (bn, gn)
            for _, trial in search.finals
            for rate in (0.05, 0.1, 0.3)
        },
        "bn, candidate at 0.3": with_settings(bn.candidates[0], (("lr", 0.3),)),
    }
    for trial in given.values():
        best = trial.norm_label == "bn" and trial.train.lr == 0.05
        outcome = Outcome(status=Status.OK, epoch=10, validation_accuracy=0.9 if best else 0.5)
        store.write("mine", trial, synthetic.identity(trial), outcome)
    shown("results", "gc", "--stale", str(path), "--yes", "--results", str(store.root))
    left = {row["trial_id"] for row in store.rows()}
    assert {name for name, trial in given.items() if trial.trial_id not in left} == {
        *("bn, candidate at 0.3", "bn, final at 0.1", "bn, final at 0.3", "gn, final at 0.3")
    }
