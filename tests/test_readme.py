"""The README's commands, each on a line of its own, as they stand there; and its suite file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import normbench
import pytest
import yaml

from tests.command import bench

ROOT = Path(normbench.__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.startswith("bench ")]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 12
    assert {shlex.split(c)[1] for c in COMMANDS} >= {
        "plan",
        "run",
        "status",
        "board",
        "site",
        "norms",
        "audit",
        "doctor",
        "results",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command: str, tmp_path: Path) -> None:
    """`run` is planned only: whole runs are what tests/test_cli.py and the gate make."""
    program, verb, *arguments = shlex.split(command, comments=True)
    assert program == "bench"
    if verb == "run":
        verb = "plan"
    if verb == "site":
        arguments += ["--out", str(tmp_path), "--only", "digits"]  # of all suites it takes half a minute
    done = bench(verb, *arguments, cwd=ROOT, BROWSER="true")  # `true` is what opens the site, then
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_its_suite_file_is_one(tmp_path: Path) -> None:
    (suite,) = [block for kind, block in BLOCKS if kind == "yaml"]
    (tmp_path / "mine.yaml").write_text(suite)
    done = bench("plan", "mine.yaml", "--results", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine: 96 trials" in done.stdout  # 4 norms, 2 batch sizes, 2 widths, 2 weight decays, 3 seeds


def test_the_citation_is_of_this_version() -> None:
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(about)
    assert about["version"] == normbench.__version__
