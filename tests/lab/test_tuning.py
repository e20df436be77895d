"""A candidate of tuning never sees a test image: there is none in its process, and its result does not change with
them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from normbench.lab import data
from normbench.lab.train import Progress
from normbench.lab.trial_run import Context, run
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial

from tests.conftest import MakeTrial, write_split


def candidate(trial: Trial, **train: object) -> Trial:
    parts = {k: getattr(trial, k) for k in Trial.model_fields} | {"stage": "tuning", "attacks": (), "measures": ()}
    parts["data"] = trial.data.model_copy(update={"validation": 0.25})
    parts["train"] = trial.train.model_copy(update={"epochs": 2} | train)
    return Trial(**parts)


def outcome(trial: Trial, folder: Path) -> tuple[Outcome, list[Progress]]:
    source = data.locate(trial.data, folder, download=False, test=trial.stage == "final")
    assert source is not None
    reported: list[Progress] = []
    return run(trial, Context(data_dir=str(folder), fingerprint=data.fingerprint(source)), reported.append), reported


@pytest.fixture
def folder(tmp_path: Path, data_dir: Path) -> Path:
    shutil.copytree(data_dir, tmp_path / "data")
    return tmp_path / "data"


def other_images(path: Path) -> None:
    rng = np.random.default_rng(0)
    write_split(path, rng.integers(0, 255, (9, 8, 8)).astype(np.uint8), np.arange(9) % 3)


def no_parquet(path: Path) -> None:
    path.write_bytes(b"these are no images")


def none_at_all(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [other_images, no_parquet, none_at_all])
def test_a_candidate_does_not_depend_on_test_images(change, folder: Path, make_trial: MakeTrial) -> None:  # type: ignore[no-untyped-def]
    before, _ = outcome(candidate(make_trial("gn")), folder)
    assert (before.status, before.reason, before.epoch) == (Status.OK, "", 2)
    change(folder / "stripes" / "test.parquet")
    after, _ = outcome(candidate(make_trial("gn")), folder)
    assert after.status is Status.OK, after.reason
    assert (after.curves, after.validation_accuracy, after.train_loss, after.audit) == (
        before.curves,
        before.validation_accuracy,
        before.train_loss,
        before.audit,
    )


def test_a_candidate_has_no_number_of_the_test_set(folder: Path, make_trial: MakeTrial) -> None:
    found, reported = outcome(candidate(make_trial("gn")), folder)
    assert (
        found.clean_correct,
        found.test_total,
        found.clean_outcomes,
        found.test_loss,
        found.attacks,
        found.robustness,
        found.health,
    ) == (None,) * 4 + ((),) * 3
    curve = [r.value for r in found.curves if r.measure == "validation.accuracy"]
    assert len(curve) == 2
    assert found.validation_accuracy == curve[-1]
    ends = [p for p in reported if p.validation_accuracy is not None]
    assert [(p.epoch, p.validation_accuracy) for p in ends] == list(zip((1, 2), curve, strict=True))
    told = [reading for p in ends for reading in p.readings]
    assert told == [r.model_dump() for r in found.curves], (
        "what a scheduler is told is all that is left of a candidate that it stops"
    )


def test_the_loader_gives_no_test_split(folder: Path, make_trial: MakeTrial) -> None:
    spec = make_trial().data
    source = data.locate(spec, folder, download=False, test=False)
    assert source is not None
    assert source.test == ()
    assert data.load(spec, source).test is None
    whole = data.locate(spec, folder, download=False)
    assert whole is not None
    assert data.fingerprint(whole) != data.fingerprint(source)
    assert data.load(spec, whole).test is not None


def test_final_trials_report_no_readings(folder: Path, make_trial: MakeTrial) -> None:
    trial = make_trial("gn", data={"validation": 0.25})
    found, reported = outcome(trial, folder)
    assert found.clean_correct is not None
    assert found.validation_accuracy is not None
    assert not any(p.readings for p in reported)
