"""A board says how many of its suite's trials have no result."""

from __future__ import annotations

import shutil
from pathlib import Path

import normbench
from normbench.cli.main import app
from typer.testing import CliRunner

ROOT = Path(normbench.__file__).parents[2]


def shown(results: Path) -> str:
    suite = str(ROOT / "suites" / "digits.yaml")
    return CliRunner().invoke(app, ["board", suite, "--results", str(results)], env={"COLUMNS": "200"}).stdout


def test_what_is_missing_is_said_below_the_boards(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "digits", tmp_path / "digits")
    assert "no result yet" not in shown(tmp_path)
    for shard in sorted((tmp_path / "digits").glob("*.parquet"))[:2]:
        shard.unlink()
    assert "2 of 15 trials have no result yet: bench status" in shown(tmp_path)
