"""The tutorial of docs/data.md, as it stands there: from a folder of pictures to a board."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import normbench
import numpy as np
import pytest
from PIL import Image

from tests.command import bench

PAGE = (Path(normbench.__file__).parents[2] / "docs" / "data.md").read_text()


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


COMMANDS = [shlex.split(line, comments=True) for line in block("tutorial").splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as the tutorial has it: pictures of three classes, and the suite."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "rose", "tulip")):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(1, 26):
            pixels = rng.integers(0, 120, (24, 24, 3))
            pixels[..., number] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "flowers" / name / f"{i:04d}.png")
    (tmp_path / "flowers.yaml").write_text(block("file: flowers.yaml"))
    return tmp_path


def done(place: Path, command: list[str]) -> str:
    assert command[0] == "bench"
    answer = bench(*command[1:], cwd=place, BENCH_DATA="", COLUMNS="100")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_the_tutorial_has_four_commands() -> None:
    assert [command[1] for command in COMMANDS] == ["data", "data", "plan", "run"]


def test_the_tutorial_up_to_its_run(place: Path) -> None:
    imported, shown, planned = (done(place, command) for command in COMMANDS[:3])
    assert "60 training images, 15 test images, 3 classes" in imported
    # Lines end in blanks where a column is wide, and the fingerprint is that of PNGs as this Pillow wrote them.
    lines = [line.rstrip() for line in shown.splitlines()]
    expected = block("shown").splitlines()
    assert [line for line in lines if "fingerprint" not in line] == [n for n in expected if "fingerprint" not in n]
    assert Image.open(place / "flowers.png").size[0] > 300
    assert "flowers: 6 trials (6 missing)" in planned


@pytest.mark.faults
def test_the_tutorial_to_its_board(place: Path) -> None:
    """With its run, which takes half a minute."""
    for command in COMMANDS[:3]:
        done(place, command)
    boards = done(place, COMMANDS[3])
    assert all(name in boards for name in ("bn", "gn", "none"))
    assert done(place, ["bench", "board", "flowers.yaml", "--results", "flowers-results"])
    assert (place / "flowers-site").is_dir()
