"""ASHA by Ray Tune: it compares within a method, ends the process of what it stops, and leaves a row of it."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from normbench.plan.plan import Item, make
from normbench.runner.tune import Events, Options, execute
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Limits
from normbench.store.store import Store
from normbench.suite import searches
from normbench.suite._load import read

from tests.runner.test_faults import is_trial

pytestmark = pytest.mark.timeout(900)  # each starts Ray
EPOCHS = 12
SUITE = """
suite: s
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn, gn]
batch_sizes: 16
widths: 0.125
seeds: 1
train: {epochs: %d, schedule: constant}
tune: {lr: %s, validation: 0.25, scheduler: %s}
"""


def trainers() -> list[psutil.Process]:
    """Processes below this one that run a trial."""
    return [p for p in psutil.Process().children(recursive=True) if is_trial(p)]


def run(root: Path, data_dir: Path, rates: str, scheduler: str) -> tuple[list[tuple[Item, Outcome]], list[int]]:
    found = searches(read((SUITE % (EPOCHS, rates, scheduler)).encode(), Path("f.yaml")))
    plan = make("s", [], Store(root), data_dir, searches=found)
    ended: list[tuple[Item, Outcome]] = []
    running: list[int] = []
    events = Events(
        started=lambda _: running.append(len(trainers())),  # its own process starts when this has returned
        progress=lambda *_: None,
        done=lambda item, outcome: ended.append((item, outcome)),
    )
    execute(plan.todo, Limits(gpu=0), Options(data_dir=data_dir, provenance={"commit": "abc"}, jobs=1), events)
    return ended, running


@pytest.mark.faults
def test_asha_stops_a_weak_candidate_and_ends_its_process(tmp_path: Path, data_dir: Path) -> None:
    ended, running = run(tmp_path, data_dir, "[0.05, 1e-7]", "asha")
    by = {(item.trial.norm_label, item.trial.train.lr): outcome for item, outcome in ended}
    assert {k: o.status for k, o in by.items()} == {
        ("bn", 0.05): Status.OK,
        ("bn", 1e-7): Status.STOPPED,
        ("gn", 0.05): Status.OK,
        ("gn", 1e-7): Status.STOPPED,
    }
    assert running == [0, 0, 0, 0], "when a candidate starts, the process of the one before is gone, stopped or not"
    stopped = by["bn", 1e-7]
    assert stopped.epoch in {EPOCHS // 3, 2 * EPOCHS // 3}
    assert f"ASHA stopped it after epoch {stopped.epoch} of {EPOCHS}" in stopped.reason
    curve = [(r.epoch, r.value) for r in stopped.curves if r.measure == "validation.accuracy"]
    assert [epoch for epoch, _ in curve] == list(range(1, stopped.epoch + 1))
    assert curve[-1][1] == stopped.validation_accuracy
    assert {"train.loss", "train.accuracy", "lr"} <= {r.measure for r in stopped.curves}
    assert stopped.train_seconds > 0
    assert stopped.wall_seconds >= stopped.train_seconds
    assert stopped.provenance["commit"] == "abc"
    whole = by["bn", 0.05]
    assert (whole.epoch, len([r for r in whole.curves if r.measure == "validation.accuracy"])) == (EPOCHS, EPOCHS)


@pytest.mark.faults
def test_a_method_is_never_held_against_another(tmp_path: Path, data_dir: Path) -> None:
    """The first candidate of a search goes on, however weak it is beside those of the method before; and the last epoch
    stops nobody.
    """
    ended, _ = run(tmp_path, data_dir, "[1e-7, 0.05]", "asha")
    assert [(item.trial.norm_label, item.trial.train.lr, outcome.status) for item, outcome in ended] == [
        ("bn", 1e-7, Status.OK),
        ("bn", 0.05, Status.OK),
        ("gn", 1e-7, Status.OK),
        ("gn", 0.05, Status.OK),
    ]


@pytest.mark.faults
def test_a_report_that_ends_the_worker_ends_the_child(tmp_path: Path, data_dir: Path) -> None:
    """Ray Tune ends a function that it stops by SystemExit out of its report."""
    (search, _) = searches(read((SUITE % (10_000, "[0.05, 0.1]", "none")).encode(), Path("f.yaml")))
    plan = make("s", [], Store(tmp_path), data_dir, searches=[search])
    item = plan.items[0]
    context = {"data_dir": str(data_dir), "fingerprint": item.identity.data, "provenance": {}}

    def report(progress: dict[str, object]) -> None:
        json.dumps(progress)  # plain values only
        if progress["validation_accuracy"] is not None:
            assert len(trainers()) == 1
            raise SystemExit(0)

    with pytest.raises(SystemExit):
        supervise(Job(item.trial.model_dump_json(), context, 600.0), report)
    assert trainers() == []
