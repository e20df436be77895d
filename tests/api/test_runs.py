"""`run`, `trial` and `board`: what they take, what they refuse, and that they are what the command does."""

from __future__ import annotations

import json
import threading
from pathlib import Path, PurePosixPath
from typing import Any

import normbench as nb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import boards_json
from normbench.cli.main import app
from normbench.lab import data
from normbench.lab.trial_run import Context
from normbench.lab.trial_run import run as run_here
from normbench.paths import shipped
from normbench.plan.identity import identity
from normbench.spec.outcome import Outcome
from normbench.store.store import Store
from normbench.suite import Suite, SuiteError, _yaml, expand, from_values, load
from typer.testing import CliRunner

SUITES = sorted(shipped("suites").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "suite": "small",
    "data": {"dataset": "stripes", "image_size": 8, "train_examples": 48, "test_examples": 12},
    "models": [{"name": "resnet18", "kwargs": {"layers": [1, 1, 1, 1]}}],
    "norms": ["bn", "gn"],
    "batch_sizes": 16,
    "widths": 0.125,
    "seeds": 1,
    "train": {"epochs": 1, "lr": 0.05},
    "attacks": ["noise"],
}


def filled(folder: Path, data_dir: Path | None, suite: dict[str, Any]) -> list[Outcome]:
    """Run all trials of a suite in this process, and store them as a run does."""
    store, found = Store(folder), []
    for trial in expand(from_values(suite)):
        found.append(nb.trial(trial, data=data_dir))
        source = data.locate(trial.data, data_dir, download=False)
        assert source is not None
        now = identity(trial, data.fingerprint(source)).placed(found[-1])
        store.write(suite["suite"], trial, now.to_dict(), found[-1])
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> tuple[Path, list[Outcome]]:
    folder = tmp_path_factory.mktemp("api") / "results"
    return folder, filled(folder, data_dir, SMALL)


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.stem)
def test_a_mapping_of_a_file_s_keys_is_that_suite(path: Path) -> None:
    values = _yaml.read(path.read_bytes()).value
    assert dict(from_values(values)) == dict(load(path))


def test_values_as_python_has_them() -> None:
    plain = from_values(SMALL | {"seeds": [0, 1], "widths": [0.5, 1.0], "norms": ["bn", "gn"]})
    given = SMALL | {"seeds": range(2), "widths": np.array([0.5, 1.0]), "norms": ("bn", "gn")}
    given["data"] = SMALL["data"] | {"dataset": PurePosixPath("stripes"), "image_size": np.int64(8)}
    assert dict(from_values(given)) == dict(plain)


BAD_SUITES: dict[str, tuple[Any, str]] = {
    "empty": ({}, "the key 'data' is missing"),
    "a key": (SMALL | {"norm": "bn"}, "suite: norm: unknown key.*did you mean 'norms'"),
    "a name": (SMALL | {"norms": ["bn", "gnn"]}, r"suite: norms\[1\]: no norm is called 'gnn'; did you mean 'gn'"),
    "a number": (SMALL | {"train": {"lr": -1.0}}, r"suite: train\.lr: expected a number above 0"),
    "not finite": (SMALL | {"train": {"lr": float("nan")}}, r"suite: train\.lr: expected a finite number, found nan"),
    "a set": (SMALL | {"seeds": {0, 1}}, "suite: seeds: expected text, a number, .* found a value of type set"),
    "a function": (SMALL | {"norms": [print]}, r"suite: norms\[0\]: .*type builtin_function_or_method"),
    "no text": (SMALL | {1: 2}, "suite: a key must be text, found 1"),
    "a list": ([SMALL], "suite: expected a file, the name of a suite, or a mapping .*found list"),
    "none": (None, "found NoneType"),
    "no file": ("nowhere.yaml", "nowhere.yaml: there is no such file"),
    "no path": (Path("nowhere.yaml"), "nowhere.yaml: there is no such file"),
    "no name": ("digit", "did you mean 'digits'"),
}


@pytest.mark.parametrize("case", BAD_SUITES)
@pytest.mark.parametrize("verb", [nb.run, nb.trial, nb.board], ids=lambda f: getattr(f, "__name__", "board"))
def test_what_is_wrong_with_a_suite_is_told(verb: Any, case: str) -> None:
    suite, message = BAD_SUITES[case]
    with pytest.raises(nb.BenchError, match=message):
        verb(suite)


def test_all_that_is_wrong_is_told_at_once_without_lines() -> None:
    with pytest.raises(SuiteError) as told:
        from_values(SMALL | {"norms": "gnn", "train": {"epoch": 1}, "widths": -1})
    assert [p.line for p in told.value.problems] == [None] * 3


def test_a_mapping_that_holds_itself_ends() -> None:
    endless: dict[str, Any] = dict(SMALL)
    endless["train"] = endless
    with pytest.raises(SuiteError, match="nested deeper than 20 levels"):
        from_values(endless)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(key=st.sampled_from(list(Suite.model_fields)), value=_VALUES)
def test_any_value_is_a_suite_or_told(key: str, value: Any) -> None:
    name = Suite.model_fields[key].alias or key
    try:
        assert isinstance(from_values(SMALL | {name: value}), Suite)
    except SuiteError as error:
        told = str(error).splitlines()
    else:
        told = []
    assert all(line.startswith("suite: ") for line in told)


BAD_ONLY: dict[str, tuple[Any, str]] = {
    "a number": (3, 'only: expected "norm=gn", a list of such texts, or a mapping'),
    "no value": ("norm", "`only` 'norm': expected key=value"),
    "no key": ({"nrom": "gn"}, "`only` 'nrom=gn': there is no key 'nrom'; did you mean 'norm'"),
    "no trial": (["norm=ln"], "`only` 'norm=ln': no trial of the suite has it"),
}


@pytest.mark.parametrize("case", BAD_ONLY)
@pytest.mark.parametrize("verb", [nb.run, nb.trial, nb.board], ids=lambda f: getattr(f, "__name__", "board"))
def test_a_part_that_is_none_is_told(verb: Any, case: str) -> None:
    only, message = BAD_ONLY[case]
    with pytest.raises(nb.BenchError, match=message):
        verb(SMALL, only=only)


BAD_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "jobs": ({"jobs": 0}, "jobs: expected a whole number, 1 or more, .*found 0"),
    "data": ({"data": "/nowhere"}, "`data` /nowhere: there is no such folder"),
    "results": ({"results": __file__}, "`results` .*: expected a folder, found a file"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_what_is_wrong_with_a_run_is_told(case: str) -> None:
    arguments, message = BAD_RUNS[case]
    with pytest.raises(nb.BenchError, match=message):
        nb.run(SMALL, **arguments)


def test_a_trial_here_is_the_trial_of_a_run(make_trial: Any, data_dir: Path) -> None:
    """Bit for bit, and torch is afterwards set up as before."""
    trial = make_trial()
    trial = trial.model_copy(update={"attacks": trial.attacks[:1]})
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    context = Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source))
    expected = run_here(trial, context, lambda _: None)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(2)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    told: list[str] = []
    found = nb.trial(trial, data=data_dir, device="cpu", report=lambda progress: told.append(progress.phase))
    assert (found.clean_outcomes, found.test_loss) == (expected.clean_outcomes, expected.test_loss)
    assert [a.outcomes for a in found.attacks] == [a.outcomes for a in expected.attacks]
    assert told
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(1)


def test_a_trial_is_chosen_by_what_tells_it_apart(data_dir: Path) -> None:
    with pytest.raises(nb.BenchError, match=r"only: 4 trials of small match.*norm: bn, gn; seed: 0, 1$"):
        nb.trial(SMALL | {"seeds": 2}, data=data_dir)


def test_an_error_of_a_trial_comes_from_where_it_happened(
    data_dir: Path, make_trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("here")

    monkeypatch.setattr("normbench.lab.trial_run._network", broken)
    with pytest.raises(KeyError, match="here"):
        nb.trial(make_trial(), data=data_dir)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "device: expected 'cpu', 'cuda' or None, found 'tpu'"),
        ({"engine": "jit"}, "engine: expected 'auto', 'graph', 'compile', 'eager' or None, found 'jit'"),
    ],
)
def test_what_a_trial_cannot_run_on_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.BenchError, match=message):
        nb.trial(SMALL, only="norm=bn", **arguments)


def test_a_run_of_what_is_there_runs_nothing(stored: tuple[Path, list[Outcome]], data_dir: Path, capsys: Any) -> None:
    folder, outcomes = stored
    ran = nb.run(SMALL, results=folder, data=data_dir)
    assert (dict(ran.ended), dict(ran.broken), ran.cached) == ({}, {}, 2)
    assert repr(ran) == "small: 0 trials run (none), 2 cached"
    assert "small: 2 trials (2 cached)" in capsys.readouterr().out
    accuracies = ran.results.trials().column("clean_accuracy").to_pylist()
    assert sorted(accuracies) == sorted(o.clean_accuracy for o in outcomes)
    nb.run(SMALL, only={"norm": "gn", "seed": [0]}, results=folder, data=data_dir, quiet=True)
    assert capsys.readouterr().out == ""


def test_a_board_is_shown_without_codes_of_the_terminal(
    stored: tuple[Path, list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = str(nb.board(SMALL, results=stored[0]))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert str(nb.board(SMALL, results=stored[0])) == plain
    assert "\x1b" not in plain


def test_boards_are_those_of_the_command(stored: tuple[Path, list[Outcome]], tmp_path: Path) -> None:
    folder, _ = stored
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    asked = CliRunner().invoke(app, ["board", str(tmp_path / "small.yaml"), "--results", str(folder), "--json"])
    found = nb.board(SMALL, results=folder)
    assert boards_json(found) == json.loads(asked.stdout)
    assert len(found) == 1
    assert list(found) == [found[0]]
    table = found.table().to_pylist()
    cells = [
        (b["board"], e["norm"], key, c["value"], c["n"], c["rank"])
        for b in boards_json(found)
        for e in b["entries"]
        for key, c in e["metrics"].items()
    ]
    rank = lambda row: None if row["best"] is None else [row["best"], row["worst"]]
    assert [(r["board"], r["norm"], r["metric"], r["value"], r["n"], rank(r)) for r in table] == cells
    assert found.table("pandas").groupby("norm").size().to_dict() == {"bn": len(cells) // 2, "gn": len(cells) // 2}
    assert found[0].title in str(found)
    only = nb.board(SMALL, only="norm=gn", results=folder)
    assert {r["norm"] for r in only.table().to_pylist()} == {"gn"}
    assert str(nb.board(SMALL, results=tmp_path / "none")) == "No results yet."
    assert nb.board(SMALL, results=tmp_path / "none").table().num_rows == 0


@pytest.mark.faults
def test_runs_from_a_script_and_from_a_thread(tmp_path: Path, data_dir: Path) -> None:
    """Twice in one process, which no run imports anew."""
    ran = nb.run(SMALL, only="norm=gn", results=tmp_path / "results", data=data_dir)
    assert [status.value for status in ran.ended.values()] == ["ok"]
    again: list[Any] = []
    thread = threading.Thread(
        target=lambda: again.append(nb.run(SMALL, results=tmp_path / "results", data=data_dir, quiet=True))
    )
    thread.start()
    thread.join()
    assert (len(again[0].ended), again[0].cached, len(again[0].results)) == (1, 1, 2)
    assert {r["norm"] for r in again[0].boards().table().to_pylist()} == {"bn", "gn"}
    import ray

    assert not ray.is_initialized()
    ray.init("local", include_dashboard=False, num_cpus=1, logging_level="ERROR")
    try:
        with pytest.raises(nb.BenchError, match=r"call ray\.shutdown\(\) first"):
            nb.run(SMALL, results=tmp_path / "results", data=data_dir)
        assert ray.get(ray.remote(lambda: len(nb.norms())).remote()) == len(nb.norms())
    finally:
        ray.shutdown()
