"""The store: whole shards or none, readable or reported."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normbench.spec.outcome import AttackResult, Outcome, Reading, Status
from normbench.store import store as stores
from normbench.store.files import write_atomically
from normbench.store.schema import SCHEMA, trial_of
from normbench.store.store import Store, StoreError

from tests.conftest import MakeTrial

IDENTITY = {"hash": "h" * 32, "spec": "s", "data": "d", "code": {}, "protocol": 1, "versions": {}}
OUTCOME = Outcome(
    status=Status.OK,
    epoch=2,
    clean_correct=7,
    test_total=10,
    clean_outcomes=b"\xfe\x80",
    test_loss=0.5,
    attacks=(
        AttackResult(
            attack="bim",
            threat="linf",
            size=8 / 255,
            correct=3,
            total=10,
            outcomes=b"\x07\x00",
            seconds=1.5,
            model_calls=70,
        ),
    ),
    curves=(
        Reading(step=0, epoch=0, measure="loss", value=None),
        Reading(step=1, epoch=0.5, measure="norm", layer="conv", value=2.5),
    ),
    audit={"replaced": [{"name": "bn1"}]},
    provenance={"commit": None},
    started=1_790_000_000.25,
    wall_seconds=3.0,
)


def test_a_row_comes_back_whole(tmp_path: Path, make_trial: MakeTrial) -> None:
    store, trial = Store(tmp_path), make_trial("gn", seed=4)
    path = store.write("mine", trial, IDENTITY, OUTCOME)
    (row,) = store.rows()
    assert path == tmp_path / "mine" / f"{trial.trial_id}.parquet"
    assert trial_of(row) == trial
    assert (row["suite"], row["norm"], row["seed"], row["status"], row["clean_accuracy"]) == (
        "mine",
        "gn",
        4,
        "ok",
        0.7,
    )
    assert row["attacks"][0]["outcomes"] == b"\x07\x00"
    assert row["attacks"][0]["accuracy"] == pytest.approx(0.3)
    assert [c["value"] for c in row["curves"]] == [None, 2.5]
    assert row["started"].timestamp() == 1_790_000_000.25
    assert store.table().schema.equals(SCHEMA)


def test_running_again_replaces_the_row(tmp_path: Path, make_trial: MakeTrial) -> None:
    store, trial = Store(tmp_path), make_trial()
    store.write("mine", trial, IDENTITY, Outcome(status=Status.KILLED, reason="x"))
    store.write("mine", trial, IDENTITY, OUTCOME)
    assert [r["status"] for r in store.rows()] == ["ok"]


def test_suites_are_apart_and_columns_can_be_chosen(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    for suite, seed in (("a", 0), ("b", 1), ("b", 2)):
        store.write(suite, make_trial(seed=seed), IDENTITY, OUTCOME)
    assert store.suites() == ["a", "b"]
    assert sorted(r["seed"] for r in store.rows(["b"], ["seed"])) == [1, 2]
    assert store.table(columns=["seed", "status"]).column_names == ["seed", "status"]
    assert Store(tmp_path / "none").table().num_rows == 0


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_earlier_row_and_nothing_else(
    tmp_path: Path, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, trial = Store(tmp_path), make_trial()
    store.write("mine", trial, IDENTITY, OUTCOME)
    before = store.path("mine", trial.trial_id).read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    match step:
        case "write":
            monkeypatch.setattr(os, "fdopen", full)
        case "fsync":
            monkeypatch.setattr(os, "fsync", full)
        case "replace":
            monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match=r"cannot write the result of a trial to .*: No space left on device"):
        store.write("mine", trial, IDENTITY, Outcome(status=Status.ERROR, reason="second"))
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [f"{trial.trial_id}.parquet"]
    assert store.path("mine", trial.trial_id).read_bytes() == before


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    """Between any two operations of a write, the target holds the old or the new content."""
    target = tmp_path / "x"
    target.write_bytes(b"old")
    seen = []
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(target.read_bytes())
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look)
        write_atomically(target, b"new")
    assert seen == [b"old", b"new"]  # the file is flushed before it is renamed, the folder after


def test_shards_that_cannot_be_read_are_named_and_the_rest_is_read(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    store.write("mine", make_trial(seed=0), IDENTITY, OUTCOME)
    whole = store.write("mine", make_trial(seed=1), IDENTITY, OUTCOME).read_bytes()
    folder = tmp_path / "mine"
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "cut.parquet").write_bytes(whole[:-100])
    (folder / "text.parquet").write_text("hello")
    pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    pq.write_table(
        store.table().replace_schema_metadata({b"normbench.schema_version": b"99"}), folder / "newer.parquet"
    )
    pq.write_table(store.table(), folder / "rewritten.parquet")
    assert sorted(r["seed"] for r in store.rows()) == [0, 1]
    problems = {Path(p).name: text for p, text in store.problems.items()}
    assert set(problems) == {
        "empty.parquet",
        "cut.parquet",
        "text.parquet",
        "foreign.parquet",
        "newer.parquet",
        "rewritten.parquet",
    }
    assert "changed after it was written" in problems["rewritten.parquet"]
    assert "upgrade" in problems["newer.parquet"]
    assert "no known schema version" in problems["foreign.parquet"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_reported_or_harmless(tmp_path: Path, make_trial: MakeTrial, data: st.DataObject) -> None:
    store = Store(tmp_path)
    path = store.write("mine", make_trial(), IDENTITY, OUTCOME)
    content = bytearray(path.read_bytes())
    columns = ["trial_id", "status", "clean_accuracy", "attacks"]
    expected = list(store.rows(columns=columns))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    rows = list(store.rows(columns=columns))
    assert (rows == [] and store.problems) or rows == expected


def test_the_schema_is_the_recorded_one() -> None:
    """A changed column needs a new version: readers of older results rely on it."""
    assert (stores.SCHEMA_VERSION, len(SCHEMA), SCHEMA.names[:5], SCHEMA.names[-1]) == (
        3,
        47,
        ["suite", "trial_id", "entry", "board", "identity"],
        "peak_memory",
    )
