"""Plans: what is cached, stale or missing, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from normbench.lab.data import DataError
from normbench.plan.plan import State, make
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.store import Store

from tests.conftest import MakeTrial


def _store(root: Path, trials: list[Trial], data_dir: Path, outcome: Outcome) -> Store:
    store = Store(root)
    for item in make("s", trials, store, data_dir).items:
        store.write("s", item.trial, item.identity.to_dict(), outcome)
    return store


def test_what_is_stored_is_cached_and_the_rest_missing(tmp_path: Path, data_dir: Path, make_trial: MakeTrial) -> None:
    trials = [make_trial(norm, seed=seed) for norm in ("bn", "gn") for seed in (0, 1)]
    store = _store(tmp_path, trials[:3], data_dir, Outcome(status=Status.OK, wall_seconds=8.0))
    plan = make("s", trials, store, data_dir)
    assert [i.state for i in plan.items] == [State.CACHED] * 3 + [State.MISSING]
    assert plan.todo[0].trial == trials[3]
    summary = plan.to_dict()
    assert (summary["total"], summary["cached"], summary["stale"], summary["missing"]) == (4, 3, 0, 1)
    assert summary["estimate_seconds"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("status", "plain", "retried"),
    [
        ("ok", "cached", "cached"),
        ("diverged", "cached", "cached"),
        ("error", "cached", "missing"),
        ("timed_out", "cached", "missing"),
        ("killed", "missing", "missing"),
    ],
)
def test_failures_are_results_until_asked_again(
    tmp_path: Path, data_dir: Path, make_trial: MakeTrial, status: str, plain: str, retried: str
) -> None:
    trials = [make_trial()]
    store = _store(tmp_path, trials, data_dir, Outcome(status=Status(status), reason="because"))
    assert make("s", trials, store, data_dir).items[0].state.value == plain
    again = make("s", trials, store, data_dir, retry=True).items[0]
    assert again.state.value == retried
    assert all("because" in r for r in again.reasons)


def test_a_missing_trial_names_the_setting_in_which_it_differs(
    tmp_path: Path, data_dir: Path, make_trial: MakeTrial
) -> None:
    store = _store(tmp_path, [make_trial(lr=0.1)], data_dir, Outcome(status=Status.OK))
    (item,) = make("s", [make_trial(lr=0.2)], store, data_dir).items
    assert item.reasons == ("it was never run with these settings: train.lr is 0.2, stored with 0.1",)
    (item,) = make("s", [make_trial("gn")], store, data_dir).items
    assert item.reasons == ("it was never run",)


def test_the_estimate_scales_with_epochs_and_is_unknown_without_experience(
    tmp_path: Path, data_dir: Path, make_trial: MakeTrial
) -> None:
    assert make("s", [make_trial()], Store(tmp_path), data_dir).estimate is None
    store = _store(
        tmp_path, [make_trial(seed=s) for s in range(3)], data_dir, Outcome(status=Status.OK, wall_seconds=2.0)
    )
    assert make(
        "s", [make_trial(seed=9, epochs=5), make_trial("gn", seed=9, epochs=5)], store, data_dir
    ).estimate == pytest.approx(20.0)


def test_a_dataset_that_cannot_exist_is_an_error_at_planning(
    tmp_path: Path, data_dir: Path, make_trial: MakeTrial
) -> None:
    with pytest.raises(DataError, match="did you mean 'stripes'"):
        make("s", [make_trial(data={"dataset": "stripe"})], Store(tmp_path), data_dir)
