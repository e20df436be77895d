"""The numeric protocol: recorded numbers that may not move unless `normbench.spec.trial.PROTOCOL` is raised.

When a change moves them on purpose: raise PROTOCOL, run this file with NORMBENCH_RECORD=1, commit both.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from normbench.lab import data
from normbench.lab.trial_run import Context, run
from normbench.spec.trial import PROTOCOL

from tests.conftest import MakeTrial

RECORDED = Path(__file__).parent / "protocol.json"


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_numbers_are_those_of_this_protocol(make_trial: MakeTrial, data_dir: Path, norm: str) -> None:
    trial = make_trial(
        norm, seed=3, epochs=2, weight_decay=5e-4, warmup=0.25, label_smoothing=0.1, data={"augment": ("crop", "flip")}
    )
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source)), lambda _: None)
    assert outcome.status == "ok", outcome.log
    found = {
        "train.loss": [r.value for r in outcome.curves if r.measure == "train.loss"],
        "test_loss": outcome.test_loss,
        "clean_correct": outcome.clean_correct,
        "attacks": [a.correct for a in outcome.attacks],
        "weight-norm": [r.value for r in outcome.curves if r.measure == "weight-norm.raw" and not r.layer],
    }
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    key = f"{PROTOCOL}/{norm}"
    if os.environ.get("NORMBENCH_RECORD"):
        RECORDED.write_text(json.dumps(recorded | {key: found}, indent=1) + "\n")
        return
    expected = recorded[key]
    assert found["train.loss"] == pytest.approx(expected["train.loss"], rel=1e-3)
    assert found["test_loss"] == pytest.approx(expected["test_loss"], rel=5e-3)
    assert found["weight-norm"] == pytest.approx(expected["weight-norm"], rel=1e-4)
    # float32 kernels differ a little between processors: one image of 48 may fall on the other side
    assert abs(found["clean_correct"] - expected["clean_correct"]) <= 1
    assert all(abs(a - b) <= 1 for a, b in zip(found["attacks"], expected["attacks"], strict=True))
