"""`bench rank` and `normbench.rank`: the rule of boards for anybody's table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import normbench
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from normbench.board import rank
from normbench.board.tables import TableError
from normbench.cli.main import app
from typer.testing import CliRunner


def table(boards: int = 2, methods: int = 4, seeds: int = 3) -> pa.Table:
    generator = np.random.default_rng(0)
    rows = [
        {"task": f"t{b}", "model": f"m{m}", "fold": f"f{s}", "score": float(4 * (m // 2) + generator.normal())}
        for b in range(boards)
        for m in range(methods)
        for s in range(seeds)
    ]
    return pa.Table.from_pylist(rows)


NAMES = {"value": "score", "method": "model", "seed": "fold", "board": "task"}
OPTIONS = [part for key, name in NAMES.items() for part in (f"--{key}", name)]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    shown = CliRunner().invoke(app, ["rank", *map(str, arguments)])
    said = f"{shown.stderr}{shown.exception or ''}"
    return getattr(shown.exception, "exit_code", shown.exit_code), shown.stdout, said


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_is_ranked_by_the_rule_of_boards(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"scores.{kind}"
    (pq.write_table if kind == "parquet" else pa.csv.write_csv)(table(), path)
    code, out, _ = run(path, *OPTIONS, "--json")
    assert code == 0
    found = json.loads(out)
    assert [list(line) for line in found] == [["board", "method", "mean", "low", "high", "best", "worst", "n"]] * 8
    for b in ("t0", "t1"):
        own = [line for line in found if line["board"] == b]
        values: dict[str, dict[int, float]] = {}
        for row in table().to_pylist():
            if row["task"] == b:
                values.setdefault(row["model"], {})[int(row["fold"][1:])] = row["score"]
        expected = rank(list(values.values())).standings
        assert [line["method"] for line in own] == list(values)
        for line, standing in zip(own, expected, strict=True):
            assert standing.interval is not None
            assert standing.rank is not None
            assert (line["mean"], line["low"], line["high"]) == pytest.approx(
                (standing.mean, standing.interval.low, standing.interval.high)
            )
            assert (line["best"], line["worst"], line["n"]) == (standing.rank.best, standing.rank.worst, 3)
    code, out, _ = run(path, *OPTIONS)
    assert code == 0
    assert all(word in out for word in ("t0", "t1", "m0", "m3", "told apart"))


def test_from_python_a_mapping_and_an_arrow_table_say_the_same() -> None:
    given = table(1)
    assert normbench.rank(given, **NAMES) == normbench.rank(given.to_pydict(), **NAMES)
    without = normbench.rank(given, value="score", method="model", seed="fold")
    assert {line["board"] for line in without} == {None}


def test_failed_runs_are_missing_seeds_and_two_seeds_tell_nothing() -> None:
    given: dict[str, list[Any]] = {
        "method": ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["d"],
        "seed": [0, 1, 2, 3] * 3 + [0],
        "accuracy": [0.9, 0.91, None, 0.92, 0.8, 0.81, 0.79, 0.8, 0.5, float("nan"), None, 0.4, None],
    }
    found = {line["method"]: line for line in normbench.rank(given)}
    assert [(found[m]["n"], found[m]["best"], found[m]["worst"]) for m in "abcd"] == [
        (3, 1, 1),
        (4, 2, 2),
        (2, None, None),
        (0, None, None),
    ]
    assert (found["c"]["low"], found["d"]["mean"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"acuracy": [0.1]}, "there is no column 'accuracy' (meant: 'acuracy'?)"),
        ({"accuracy": ["high"]}, "column 'accuracy' holds string, not numbers"),
        ({"accuracy": [float("inf")]}, "row 1: accuracy is inf"),
        ({"accuracy": [0.1], "seed": [None]}, "row 1 has no seed"),
        ({"accuracy": [0.1], "method": [["a"]]}, "not one text or number a row"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError) as error:
        normbench.rank({"method": ["a"], "seed": [1]} | change)
    assert said in str(error.value)


def test_a_name_that_two_columns_have_is_said(tmp_path: Path) -> None:
    twice = pa.table([["a", "b"], [1, 1], [0.1, 0.2], [0.1, 0.3]], names=["method", "seed", "accuracy", "accuracy"])
    pa.parquet.write_table(twice, tmp_path / "twice.parquet")
    (tmp_path / "twice.csv").write_text("method,method,seed,accuracy\na,a,1,0.1\n")
    for name, column in (("twice.parquet", "accuracy"), ("twice.csv", "method")):
        code, _, error = run(tmp_path / name)
        assert (code, error) == (2, f"2 columns are called '{column}'")


def test_a_run_told_twice_is_no_second_seed() -> None:
    with pytest.raises(TableError, match="method a has seed 1 more than once"):
        normbench.rank({"method": ["a", "a"], "seed": [1, 1], "accuracy": [0.1, 0.2]})
    with pytest.raises(TableError, match="a list is no table"):
        normbench.rank([1, 2])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no file"),
        ("bad.parquet", b"not a table", "cannot be read"),
        ("table.xlsx", b"", "a table is a file called *.parquet or *.csv"),
        ("empty.csv", b"", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_one_message(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, error = run(tmp_path / name)
    assert code == 2
    assert said in error


def test_the_command_of_the_documentation_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rank.md").read_text()
    (command,) = [line for line in text.splitlines() if line.startswith("bench rank ")]
    pa.csv.write_csv(table(1).rename_columns(["board", "method", "seed", "accuracy"]), tmp_path / "scores.csv")
    code, out, error = run(*(tmp_path / a if a.endswith(".csv") else a for a in command.split()[2:]))
    assert (code, error) == (0, "")
    assert "told apart" in out
