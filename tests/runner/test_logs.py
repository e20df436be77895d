"""Trials in the loggers that people have: what was written is read back by the loggers' own readers."""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from normbench.plan.foreseen import loggers_lacking
from normbench.runner.logs import Logs
from normbench.runner.logs.entry import Entry
from normbench.spec.loggers import LOGGERS
from normbench.spec.outcome import Outcome, Reading, Status
from normbench.spec.trial import Trial

from tests.conftest import make_plain
from tests.store.samples import outcome as sample


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def ended(seed: int = 0, norm: str = "gn[groups=2]") -> tuple[Trial, Outcome]:
    readings = tuple(
        Reading(step=s, epoch=s / 2, measure=m, layer=layer, value=v)
        for s, m, layer, v in [
            (0, "weight-norm.raw", "network.conv1.weight", 2.0),
            (2, "train.loss", "", 1.5),
            (4, "train.loss", "", 1.25),
            (4, "weight-norm.raw", "network.conv1.weight", 3.0),
            (4, "growth", "", None),
        ]
    )
    return make_plain(norm, seed), sample(1000.0).model_copy(update={"curves": readings, "test_loss": 0.5})


def write(*names: str) -> list[str]:
    """Write two trials, and return what was said."""
    notes: list[str] = []
    with Logs("small", names, notes.append) as logs:
        for seed in range(2):
            logs.trial(*ended(seed))
    return notes


def test_an_entry_holds_what_a_row_does() -> None:
    trial, outcome = ended()
    entry = Entry.of("small", trial, outcome)
    assert entry.curves == {
        0: {"weight-norm.raw/network.conv1.weight": 2.0},
        2: {"train.loss": 1.5},
        4: {"train.loss": 1.25, "weight-norm.raw/network.conv1.weight": 3.0},
    }
    assert entry.final["accuracy"] == outcome.clean_accuracy
    assert entry.final["accuracy/bim/0.1"] == outcome.attacks[0].accuracy
    assert entry.settings["train.lr"] == 0.05
    assert entry.settings["norm_label"] == "gn[groups=2]"
    assert "/" not in entry.slug
    assert "[" not in entry.slug
    failed = Entry.of("small", trial, Outcome(status=Status.ERROR, reason="none"))
    assert (failed.curves, failed.final) == ({}, {})


def test_tensorboard_reads_what_was_written(here: Path) -> None:
    readers = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    (note,) = write("tensorboard")
    assert note == "log: tensorboard: tensorboard --logdir runs shows them"
    folders = sorted(p.parent for p in here.glob("runs/small/*/*/events*"))
    assert len(folders) == len({f.parent for f in folders}) == 2
    read = readers.EventAccumulator(str(folders[0]))
    read.Reload()
    scalars = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert scalars["train.loss"] == [(2, 1.5), (4, 1.25)]
    assert scalars["weight-norm.raw/network.conv1.weight"] == [(0, 2.0), (4, 3.0)]
    assert scalars["final/accuracy"] == [(4, pytest.approx(ended()[1].clean_accuracy))]
    assert "growth" not in scalars
    about = plugin_data_pb2.HParamsPluginData.FromString(
        read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    assert about.session_start_info.hparams["train.lr"].number_value == 0.05


def records(path: Path) -> Iterator[bytes]:
    """What a file of wandb's holds: after seven bytes of its own, a log as LevelDB has it. Blocks of 32 KiB hold parts
    of records, each behind its checksum, its length and its kind: whole, first, middle or last.
    """
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:
            yield record
            record = b""


def test_wandb_keeps_runs_offline(here: Path) -> None:
    pytest.importorskip("wandb")
    assert write("wandb") == ["log: wandb: nobody is logged in: runs stay in wandb/, wandb sync sends them"]
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted(here.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    losses, summary, config = [], {}, {}
    for record in map(Record.FromString, records(files[0])):
        items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        losses += [(items["_step"], items["train.loss"])] if "train.loss" in items else []
        summary |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
        config |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.run.config.update}
        if record.run.project:
            assert (record.run.project, record.run.run_group) == ("normbench", "small")
    assert losses == [(2, 1.5), (4, 1.25)]
    assert summary["final/accuracy"] == ended()[1].clean_accuracy
    assert config["train.lr"] == 0.05


def test_mlflow_has_runs_in_an_experiment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/own.db")
    (note,) = write("mlflow")
    assert note == f"log: mlflow: runs go to sqlite:///{here}/own.db"
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    assert {r.info.status for r in runs} == {"FINISHED"}
    first = next(r for r in runs if r.data.params["seed"] == "0")
    assert first.data.tags["trial_id"] == ended()[0].trial_id
    history = client.get_metric_history(first.info.run_id, "train.loss")
    assert [(m.step, m.value) for m in history] == [(2, 1.5), (4, 1.25)]
    assert first.data.metrics["final/accuracy"] == ended()[1].clean_accuracy
    assert first.data.params["train.lr"] == "0.05"


def test_without_a_trial_nothing_is_opened(here: Path) -> None:
    notes: list[str] = []
    with Logs("small", ["tensorboard"], notes.append):
        pass
    assert notes == []
    assert list(here.iterdir()) == []


def test_a_package_that_is_missing_is_said_and_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    (line,) = loggers_lacking(["tensorboard", "wandb"])
    assert line == "log: wandb needs the package wandb: install normbench[wandb]"
    assert write("wandb") == []


def test_a_logger_that_fails_costs_itself_alone(here: Path) -> None:
    (here / "runs").write_text("a file in the folder's place")
    failure = write("tensorboard")[-1]
    assert failure.startswith("log: tensorboard is left out from here on: ")
    assert "runs/small" in failure


def test_a_run_that_is_broken_off_does_not_wait(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger hangs, as one does whose server does not answer."""
    import threading

    module: Any = importlib.import_module("normbench.runner.logs.to_tensorboard")
    entered, release = threading.Event(), threading.Event()

    def hang(self: object, entry: Entry) -> None:
        entered.set()
        release.wait()

    monkeypatch.setattr(module.TensorBoard, "trial", hang)
    monkeypatch.setattr("normbench.runner.logs.GRACE", 0.01)
    with pytest.raises(KeyboardInterrupt), Logs("small", ["tensorboard"], lambda text: None) as logs:  # noqa: PT012
        logs.trial(*ended())
        assert entered.wait(60)
        raise KeyboardInterrupt
    release.set()


def test_every_logger_is_there() -> None:
    for name in LOGGERS:
        assert importlib.import_module(f"normbench.runner.logs.to_{name}").open_log
