"""Re-runs of real trials: honest results hold, forged ones do not, whatever their checksums say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from normbench.cli.main import app
from normbench.errors import BenchError
from normbench.lab import data
from normbench.lab.trial_run import Context, run
from normbench.plan.fingerprints import Fingerprints
from normbench.plan.identity import identity
from normbench.plan.provenance import provenance
from normbench.spec.trial import Trial
from normbench.store.levels import Level
from normbench.store.schema import SCHEMA, of_identity, of_trial
from normbench.store.store import Store, to_bytes
from normbench.store.verify import verify
from normbench.trust.rerun import Checked, Rerun, Verdict, shards, since
from typer.testing import CliRunner

from tests.conftest import MakeTrial
from tests.matrix import sample

Ran = Callable[..., Path]


@pytest.fixture
def ran(tmp_path: Path, data_dir: Path) -> Ran:
    """Runs a trial for real, stores it, and returns its shard; `context`: how, `changed`: columns that are changed
    afterwards, resealed.
    """

    def make(trial: Trial, changed: Callable[[dict[str, Any]], None] = lambda row: None, **context: Any) -> Path:
        source = data.locate(trial.data, data_dir, download=False)
        assert source is not None
        content = data.fingerprint(source)
        outcome = run(
            trial,
            Context(data_dir=str(data_dir), fingerprint=content, provenance=provenance(), **context),
            lambda _: None,
        )
        path = Store(tmp_path / "results").write("small", trial, identity(trial, content).to_dict(), outcome)
        table = Store(tmp_path / "results").read(f"{path.parent.name}/{path.name}")
        row = table.to_pylist()[0] if table is not None else None
        assert row is not None
        changed(row)
        path.write_bytes(to_bytes(pa.Table.from_pylist([row], schema=SCHEMA)))
        return path

    return make


@pytest.fixture
def bench(data_dir: Path) -> Callable[..., Checked]:
    return lambda path, **options: Rerun(
        data_dir=data_dir, fingerprints=Fingerprints(data_dir, download=False), **options
    ).check(path)


def _everything_right(row: dict[str, Any]) -> None:
    """What a careful forger would write: a perfect network, its bits, its curves of robustness; `verify` has nothing to
    say.
    """
    total = row["test_total"]
    ones = np.packbits(np.ones(total, bool)).tobytes()
    row |= {"clean_correct": total, "clean_accuracy": 1.0, "clean_outcomes": ones}
    for attack in row["attacks"]:
        attack |= {"correct": attack["total"], "accuracy": 1.0, "outcomes": ones}


def test_an_honest_result_holds_first_its_steps_then_all_of_it(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial
) -> None:
    path = ran(make_trial("gn", seed=4, warmup=0.5))
    smoke = bench(path, whole=0.0)
    assert smoke.verdict is Verdict.HOLDS, smoke.reasons
    assert smoke.mark is not None
    assert (smoke.mark.level, smoke.mark.extent, len(smoke.mark.compared)) == (Level.SMOKE, "first 6 steps", 6)
    assert all(c.expected == pytest.approx(c.found, rel=1e-5) and c.tolerance < 0.02 for c in smoke.mark.compared)
    short = bench(path)
    assert short.mark is not None
    assert (short.mark.level, short.mark.extent) == (Level.SMOKE, "first 6 steps, whole trial")
    assert {"clean accuracy", "bim[steps=3] at 0.0313725"} <= {c.what for c in short.mark.compared}
    again = bench(path, rerun=True)
    assert again.mark is not None
    assert (again.mark.level, again.mark.extent) == (Level.RERUN, "whole trial")


@pytest.mark.matrix
def test_a_forged_accuracy_is_caught_where_the_trial_is_run_whole(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial
) -> None:
    path = ran(make_trial("bn", lr=1e-4), _everything_right)
    assert verify(Store(path.parent.parent)) == (1, [])
    for options in ({}, {"rerun": True}):
        caught = bench(path, **options)
        assert caught.verdict is Verdict.REFUTED
        assert caught.mark is None
        assert "clean accuracy: it says 1, a re-run gives 0." in caught.reasons[0]
    assert bench(path, whole=0.0).verdict is Verdict.HOLDS  # the first steps alone cannot know


def _like(trial: Trial) -> Callable[[dict[str, Any]], None]:
    """Passes a row off as that of another trial."""

    def change(row: dict[str, Any]) -> None:
        parts = json.loads(row["identity_parts"])
        parts |= {"spec": trial.trial_id, "code": identity(trial, None).code}
        row |= {"spec": json.dumps(trial.model_dump(mode="json")), **of_trial(trial), **of_identity(parts)}
        row |= {"seed": trial.seed, "norm": trial.norm_label, "lr": trial.train.lr}

    return change


@pytest.mark.parametrize(
    "real", sample([{"norm": "gn"}, {"seed": 1}, {"lr": 0.1}, {"data": {"augment": ("flip",)}}], [{"lr": 0.1}]), ids=str
)
def test_numbers_of_another_trial_are_caught_by_the_first_steps(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial, real: dict[str, Any]
) -> None:
    claimed = make_trial()
    path = ran(make_trial(**real), _like(claimed))
    path = path.rename(path.with_name(f"{claimed.trial_id}.parquet"))
    caught = bench(path, whole=0.0)
    assert caught.verdict is Verdict.REFUTED, caught.reasons
    assert "loss of step" in caught.reasons[0]


@pytest.mark.matrix
def test_rounding_of_another_machine_is_no_forgery(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial
) -> None:
    """Starting weights a millionth off stand for a processor that rounds otherwise; bfloat16 stands for a GPU.
    Whitening amplifies both most.
    """
    for norm in ("bn", "bw-zca"):
        shaken = bench(ran(make_trial(norm), shake=-1e-6), whole=0.0)
        assert shaken.verdict is Verdict.HOLDS, (norm, shaken.reasons)
    half = ran(
        make_trial("bn", precision="bf16"),
        lambda row: row.update(provenance=json.dumps(json.loads(row["provenance"]) | {"device": "a GPU"})),
    )
    assert bench(half, whole=0.0).verdict is Verdict.HOLDS


def test_a_result_of_other_code_is_named(ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial) -> None:
    def older(row: dict[str, Any]) -> None:
        parts = json.loads(row["identity_parts"])
        parts["code"]["normbench.norms.bn"] = "0" * 16
        parts["versions"]["timm"] = "0.1"
        row |= of_identity(parts)

    def newer_library(row: dict[str, Any]) -> None:
        parts = json.loads(row["identity_parts"])
        parts["versions"]["timm"] = "0.1"
        row |= of_identity(parts)

    caught = bench(ran(make_trial(), older))
    assert (caught.verdict, caught.reasons) == (
        Verdict.REFUTED,
        ("not of this checkout: normbench.norms.bn: source changed",),
    )
    other = bench(ran(make_trial(), newer_library), whole=0.0)
    assert other.verdict is Verdict.HOLDS
    assert "timm: version changed (0.1 -> " in other.notes[0]


def test_what_cannot_be_run_again_is_not_refuted(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial, tmp_path: Path
) -> None:
    def silent(row: dict[str, Any]) -> None:
        row["curves"] = [c for c in row["curves"] if c["measure"] != "train.step-loss"]

    path = ran(make_trial(), silent)
    told = bench(path)
    assert (told.verdict, told.reasons, told.mark) == (
        Verdict.UNCHECKED,
        ("the losses of its first steps are not recorded",),
        None,
    )
    elsewhere = Rerun(data_dir=None, fingerprints=Fingerprints(None, download=False)).check(path)
    assert (elsewhere.verdict, "dataset stripes is not on this machine" in elsewhere.reasons[0]) == (
        Verdict.UNCHECKED,
        True,
    )
    path.write_bytes(b"no Parquet")
    assert bench(path).verdict is Verdict.REFUTED


def test_a_failure_is_reproduced_like_any_result(
    ran: Ran, bench: Callable[..., Checked], make_trial: MakeTrial
) -> None:
    error = bench(ran(make_trial("gn[groups=64]")))
    assert error.verdict is Verdict.HOLDS, error.reasons
    assert "ends with the same error" in error.reasons[0]
    forged = ran(
        make_trial("bn"),
        lambda row: row.update(status="error", reason="no", clean_correct=None, clean_accuracy=None, attacks=[]),
    )
    assert bench(forged, rerun=True).verdict is Verdict.REFUTED


def test_shards_are_found_by_file_suite_or_folder_and_by_commit(tmp_path: Path) -> None:
    results = tmp_path / "results"
    paths = [results / suite / f"{name}.parquet" for suite, name in (("a", "1"), ("a", "2"), ("b", "3"))]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert shards([results]) == shards([results / "a", results / "b"]) == shards(paths) == paths
    with pytest.raises(BenchError, match="no such shard"):
        shards([tmp_path / "nowhere"])

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    with pytest.raises(BenchError, match="--since main"):
        since("main", results)
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "x")
    assert since("main", results) == []
    git("checkout", "-qb", "topic")
    paths[1].write_bytes(b"y")
    paths[2].unlink()
    (results / "b" / "4.parquet").write_bytes(b"z")
    (tmp_path / "5.parquet").write_bytes(b"z")
    git("add", "-A")
    git("commit", "-qm", "y")
    assert since("main", results) == [paths[1], results / "b" / "4.parquet"]
    for wrong in ("nowhere", "--output=x"):
        with pytest.raises(BenchError, match="--since"):
            since(wrong, results)
    assert not (results / "x").exists()


def test_a_stored_trial_is_run_again_whatever_has_changed(ran: Ran, make_trial: MakeTrial, data_dir: Path) -> None:
    def other_code(row: dict[str, Any]) -> None:
        _everything_right(row)
        parts = json.loads(row["identity_parts"])
        row |= of_identity(parts | {"code": parts["code"] | {"normbench.norms.bn": "0" * 16}})

    path = ran(make_trial("bn", lr=1e-4), other_code)
    before = path.read_bytes()
    where = ["--results", str(path.parent.parent), "--data", str(data_dir)]
    done = CliRunner().invoke(app, ["rerun", path.stem[:10], *where, "--json"])
    assert done.exit_code == 1, done.output
    said = json.loads(done.stdout)
    assert said["verdict"] == "does not hold"
    assert said["notes"] == ["not of this checkout: normbench.norms.bn: source changed"]
    assert "clean accuracy: it says 1, a re-run gives 0." in said["reasons"][0]
    assert [c["holds"] for c in said["compared"] if c["what"] == "clean accuracy"] == [False]
    assert "bim[steps=3] at 0.0313725" in {c["what"] for c in said["compared"]}
    assert path.read_bytes() == before
