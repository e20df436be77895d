"""Care of a results folder: contradictions are found, exports and merges lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from normbench.errors import BenchError
from normbench.plan.identity import identity
from normbench.spec.outcome import AttackResult, Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.merge import export, merge
from normbench.store.schema import SCHEMA, to_row
from normbench.store.store import Store, to_bytes
from normbench.store.verify import verify

from tests.conftest import MakeTrial

RIGHT = np.arange(20) % 3 > 0
STOOD = RIGHT & (np.arange(20) % 2 > 0)


def _outcome(started: float = 1.0) -> Outcome:
    attack = AttackResult(
        attack="bim",
        threat="linf",
        size=0.1,
        correct=int(STOOD.sum()),
        total=20,
        outcomes=np.packbits(STOOD).tobytes(),
        seconds=1.0,
        model_calls=9,
    )
    return Outcome(
        status=Status.OK,
        clean_correct=int(RIGHT.sum()),
        test_total=20,
        clean_outcomes=np.packbits(RIGHT).tobytes(),
        attacks=(attack,),
        started=started,
    )


def _write(store: Store, trial: Trial, outcome: Outcome, **changed: Any) -> Path:
    """Write a row, with some columns changed after the fact and a checksum that fits: what a careful forger would
    do.
    """
    row = to_row("s", trial, identity(trial, "f" * 64).to_dict(), outcome) | changed
    path = store.path("s", trial.trial_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_bytes(pa.Table.from_pylist([row], schema=SCHEMA)))
    return path


def test_good_results_hold_together(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        _write(store, make_trial(seed=seed), _outcome())
    _write(store, make_trial(seed=9), Outcome(status=Status.DIVERGED, reason="x"))
    assert verify(store) == (4, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clean_correct": 20, "clean_accuracy": 1.0}, "clean accuracy is not that of its stored outcomes"),
        ({"clean_accuracy": 0.99}, "clean accuracy is not that of its stored outcomes"),
        ({"norm": "gn"}, "its norm is 'gn', its specification says 'bn'"),
        ({"seed": 5}, "its seed is 5"),
        ({"suite": "other"}, "of suite 'other' but lies in 's'"),
        ({"trial_id": "0" * 16}, "its specification gives"),
        ({"identity": "0" * 32}, "identity is not that of its parts"),
        ({"spec": "{}"}, "is not a trial's specification"),
        ({"status": "splendid"}, "column status is 'splendid', expected ok or"),
        ({"clean_correct": None, "clean_accuracy": None}, "ok but has no clean accuracy"),
        (
            {"clean_outcomes": np.packbits(STOOD & False).tobytes(), "clean_correct": 0, "clean_accuracy": 0.0},
            "right that are wrong without an attack",
        ),
    ],
)
def test_a_row_that_contradicts_itself_is_found(
    tmp_path: Path, make_trial: MakeTrial, changed: dict[str, Any], message: str
) -> None:
    store = Store(tmp_path)
    path = _write(store, make_trial(), _outcome(), **changed)
    good, findings = verify(store)
    assert good == 0
    assert {f.path for f in findings} == {str(path)}
    assert any(message in f.problem for f in findings), findings


def test_a_forged_attack_is_found(tmp_path: Path, make_trial: MakeTrial) -> None:
    store, trial = Store(tmp_path), make_trial()
    row = to_row("s", trial, identity(trial, None).to_dict(), _outcome())
    row["attacks"][0]["correct"] += 1
    _write(store, trial, _outcome(), attacks=row["attacks"])
    assert "accuracy of bim at 0.1 is not that of its stored outcomes" in verify(store)[1][0].problem


def test_a_damaged_or_renamed_shard_is_found(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    whole = _write(store, make_trial(), _outcome())
    whole.with_name("mine.parquet").write_bytes(whole.read_bytes())
    whole.with_name("cut.parquet").write_bytes(whole.read_bytes()[:50])
    good, findings = verify(store)
    assert good == 1
    assert {Path(f.path).name for f in findings} == {"mine.parquet", "cut.parquet"}


def test_export_copies_what_was_asked_for_byte_by_byte(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path / "a")
    paths = {norm: _write(store, make_trial(norm), _outcome()) for norm in ("bn", "gn", "gn[groups=2]", "ws+gn")}
    copied = export(store, Store(tmp_path / "b"), norms=["gn"])
    assert sorted(copied) == sorted(f"s/{paths[n].name}" for n in ("gn", "gn[groups=2]", "ws+gn"))
    assert (tmp_path / "b" / "s" / paths["gn"].name).read_bytes() == paths["gn"].read_bytes()
    assert verify(Store(tmp_path / "b")) == (3, [])
    with pytest.raises(BenchError, match="no results of ln"):
        export(store, Store(tmp_path / "c"), norms=["ln"])


def test_merging_keeps_the_later_run_and_can_be_repeated(tmp_path: Path, make_trial: MakeTrial) -> None:
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    _write(ours, make_trial(seed=0), _outcome(started=5.0))
    _write(ours, make_trial(seed=1), _outcome(started=5.0))
    _write(theirs, make_trial(seed=0), _outcome(started=9.0))
    _write(theirs, make_trial(seed=1), _outcome(started=2.0))
    _write(theirs, make_trial(seed=2), _outcome(started=2.0))
    assert merge(theirs, ours) == {"added": 1, "replaced": 1, "kept": 1, "marks": 0}
    assert [r["started"].timestamp() for r in sorted(ours.rows(), key=lambda r: r["seed"])] == [9.0, 5.0, 2.0]
    assert merge(theirs, ours) == {"added": 0, "replaced": 0, "kept": 3, "marks": 0}
    assert json.loads(next(ours.rows())["identity_parts"])["data"] == "f" * 64
