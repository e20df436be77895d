"""Trials that share a process and compute their steps as one: which, and that each has its own row and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from normbench.lab import data
from normbench.plan.plan import Item, make
from normbench.runner.bundles import bundles, likeness
from normbench.runner.tune import Events, Options, execute
from normbench.runner.worker import Job, supervise_all
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Limits, Trial
from normbench.store.store import Store

from tests.conftest import MakeTrial

SAUCE = {"seed": 4, "lr": 0.5, "weight_decay": 0.1, "optimizer": "adamw"}
OTHER: dict[str, Any] = {
    "batch_size": 8, "norm": "gn", "epochs": 3, "label_smoothing": 0.1, "drop_last": False,
    "data": {"train_examples": 32}, "model": {"width": 0.25},
}  # fmt: skip


@pytest.mark.parametrize(("key", "same"), [*((k, True) for k in SAUCE), *((k, False) for k in OTHER)])
def test_which_are_alike(key: str, same: bool, make_trial: MakeTrial) -> None:
    assert (likeness(make_trial(**{key: (SAUCE | OTHER)[key]})) == likeness(make_trial())) is same


def test_which_run_together(make_trial: MakeTrial) -> None:
    trials = [make_trial("bn", 0), make_trial("gn", 0), make_trial("bn", 1), make_trial("bn", 2), make_trial("gn", 1)]
    free = [(number, trial, False) for number, trial in enumerate(trials)]
    assert bundles(free, 1) == [[0], [1], [2], [3], [4]]
    assert bundles(free, 2) == [[0, 2], [1, 4], [3]]
    assert bundles(free, 8) == [[0, 2, 3], [1, 4]]
    assert bundles([(n, t, n == 2) for n, t, _ in free], 8) == [[0, 3], [1, 4], [2]]


def jobs(trials: list[Trial], data_dir: Path, limit: float = 120.0) -> list[Job]:
    source = data.locate(trials[0].data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source), "provenance": {"commit": "abc"}}
    return [Job(trial.model_dump_json(), context, limit) for trial in trials]


def supervised(todo: list[Job]) -> tuple[dict[int, Outcome], list[int]]:
    found: dict[int, Outcome] = {}
    reported: list[int] = []

    def ended(which: int, outcome: Outcome) -> None:
        assert which not in found
        found[which] = outcome

    supervise_all(todo, lambda which, _: reported.append(which), ended)
    return found, reported


def test_each_has_an_outcome_of_its_own(data_dir: Path, make_trial: MakeTrial) -> None:
    trials = [make_trial("none", seed, lr=lr, epochs=2) for seed, lr in ((0, 0.02), (1, 1000.0), (2, 0.02))]
    found, reported = supervised(jobs([t.model_copy(update={"attacks": ()}) for t in trials], data_dir))
    assert [found[n].status for n in range(3)] == [Status.OK, Status.DIVERGED, Status.OK]
    assert [found[n].provenance["engine"] for n in range(3)] == ["together"] * 3
    assert {found[n].provenance["commit"] for n in range(3)} == {"abc"}
    assert found[0].train_loss != found[2].train_loss
    assert {0, 2} <= set(reported)


@pytest.mark.faults
def test_what_ends_the_process_ends_all_in_it(data_dir: Path, make_trial: MakeTrial) -> None:
    found, _ = supervised(jobs([make_trial(seed=seed, epochs=10_000) for seed in (0, 1)], data_dir, limit=3.0))
    for outcome in found.values():
        assert outcome.status is Status.TIMED_OUT
        assert "its limit of 6 s" in outcome.reason
    assert len(found) == 2


@pytest.mark.faults
def test_a_run_has_a_row_for_each(tmp_path: Path, data_dir: Path, make_trial: MakeTrial) -> None:
    """With one that cannot be stacked with others, and one more than run together."""
    trials = [make_trial(norm, seed, epochs=1) for norm, seed in (("gn", 0), ("gn", 1), ("bn+noise", 0), ("gn", 2))]
    plan = make("s", trials, Store(tmp_path), data_dir)
    ended: list[tuple[Item, Outcome]] = []
    started: list[Item] = []
    events = Events(started.append, lambda *_: None, lambda item, outcome: ended.append((item, outcome)))
    execute(plan.todo, Limits(gpu=0, together=2), Options(data_dir=data_dir, provenance={}), events)
    found = {item.trial.trial_id: outcome for item, outcome in ended}
    assert len(ended) == len(started) == 4
    assert [found[t.trial_id].status for t in trials] == [Status.OK] * 4
    assert [found[t.trial_id].provenance["engine"] for t in trials] == ["together", "together", "eager", "eager"]
