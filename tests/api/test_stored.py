"""Stored results as tables: a row a trial, a number a row."""

from __future__ import annotations

import builtins
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import normbench as nb
import pandas as pd
import pytest
from normbench.api.stored import KEYS, VALUES
from normbench.plan.identity import identity
from normbench.spec.outcome import Outcome, Status
from normbench.store.store import Store

from tests.conftest import MakeTrial
from tests.store.samples import fill


@pytest.fixture
def folder(tmp_path: Path, make_trial: MakeTrial) -> Path:
    """Three trials of suite `s`, one of suite `other`, and one that failed before it had any number."""
    store = Store(tmp_path / "results")
    fill(store, make_trial, (0, 1, 2))
    fill(store, make_trial, (5,), "other")
    failed = make_trial(norm="gn")
    store.write("s", failed, identity(failed, "f" * 64).to_dict(), Outcome(status=Status.ERROR, reason="a bug"))
    return tmp_path / "results"


def rows_of(folder: Path, column: str) -> list[dict[str, Any]]:
    """The records in the lists of a column, each with the trial that it is of."""
    return [{"trial_id": r["trial_id"]} | record for r in Store(folder).rows() for record in r[column]]


def test_a_row_a_trial(folder: Path) -> None:
    found = nb.results(folder)
    assert len(found) == 5
    assert repr(found) == f"5 trials in {folder}"
    table = found.trials()
    assert table.column_names == [*KEYS, *VALUES]
    stored = [{k: r[k] for k in table.column_names if k != "started"} for r in Store(folder).rows()]
    assert table.drop_columns(["started"]).to_pylist() == stored
    assert found.table.equals(Store(folder).table())


@pytest.mark.parametrize(
    ("name", "renamed", "without"), [("attacks", {}, {"outcomes"}), ("curves", {"epoch": "at_epoch"}, set())]
)
def test_a_row_a_number(folder: Path, name: str, renamed: dict[str, str], without: set[str]) -> None:
    """The records of each trial in their order, with the trial's keys; a trial that has none has no row."""
    table = getattr(nb.results(folder), name)()
    expected = [{renamed.get(k, k): v for k, v in row.items() if k not in without} for row in rows_of(folder, name)]
    assert len(expected) >= 4
    assert table.select(list(expected[0])).to_pylist() == expected
    assert table.column_names[: len(KEYS)] == list(KEYS)
    trials = {r["trial_id"]: r for r in nb.results(folder).trials().to_pylist()}
    for row in table.to_pylist():
        assert {k: row[k] for k in KEYS} == {k: trials[row["trial_id"]][k] for k in KEYS}


@pytest.mark.parametrize("name", ["trials", "attacks", "curves"])
def test_frames_of_pandas_hold_the_same(folder: Path, name: str) -> None:
    found = nb.results(folder)
    frame = getattr(found, name)("pandas")
    assert isinstance(frame, pd.DataFrame)
    assert frame.equals(getattr(found, name)().to_pandas())


@pytest.mark.parametrize("name", ["trials", "attacks", "curves"])
def test_frames_of_polars_hold_the_same(folder: Path, name: str) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    found = nb.results(folder)
    frame = getattr(found, name)("polars")
    assert isinstance(frame, polars.DataFrame)
    table = getattr(found, name)()
    assert frame.to_dicts() == table.to_pylist()
    grouped = frame.group_by("norm", maintain_order=True).len()
    assert dict(grouped.iter_rows()) == Counter(table.column("norm").to_pylist())
    assert nb.rank(found.trials("polars"), value="clean_accuracy", method="norm", board="suite")
    empty = getattr(nb.results(folder, ()), name)("polars")
    assert (empty.shape[0], empty.columns, empty.dtypes) == (0, frame.columns, frame.dtypes)


def test_suites_are_chosen(folder: Path) -> None:
    assert len(nb.results(folder, "other")) == 1
    assert set(nb.results(folder, ["s", "other"]).trials().column("suite").to_pylist()) == {"s", "other"}


@pytest.mark.parametrize("suites", [None, (), ["other"]])
def test_an_empty_folder_gives_empty_tables_of_the_same_columns(
    folder: Path, tmp_path: Path, suites: Sequence[str] | None
) -> None:
    (tmp_path / "empty").mkdir()
    if suites == ["other"]:
        with pytest.raises(nb.BenchError, match=r"no results of suite other in .*empty; there are none"):
            nb.results(tmp_path / "empty", suites)
        return
    found = nb.results(tmp_path / "empty", suites)
    for name in ("trials", "attacks", "curves"):
        assert getattr(found, name)().schema.equals(getattr(nb.results(folder), name)().schema)


def test_what_cannot_be_read_is_left_out_with_a_warning(folder: Path) -> None:
    first = next((folder / "s").glob("*.parquet"))
    first.write_bytes(b"no Parquet")
    with pytest.warns(RuntimeWarning, match=f"{first} is left out"):
        assert len(nb.results(folder)) == 4


def test_a_library_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "polars":
            raise ImportError(name)
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(nb.BenchError, match="polars is not installed here: pip install polars"):
        nb.results(folder).trials("polars")
    with pytest.raises(nb.BenchError, match="to: expected 'arrow', 'pandas' or 'polars', found 'csv'"):
        nb.results(folder).trials("csv")  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nb.BenchError, match="nowhere: there is no such folder"):
        nb.results(folder / "nowhere")
    monkeypatch.setenv("BENCH_RESULTS", str(folder))
    assert len(nb.results()) == 5
    shutil.rmtree(folder)
    with pytest.raises(nb.BenchError, match="there is no such folder"):
        nb.results()
    folder.write_text("a file", encoding="utf-8")
    with pytest.raises(nb.BenchError, match=r"`results` .*: expected a folder, found a file"):
        nb.results(folder)
