"""A small sample of the broken input of `tests.fuzz.harness`, whose full size is `tox -e fuzz`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import harness
from tests.fuzz.cases import MAKERS
from tests.fuzz.made import bench_in


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> harness.Bench:
    harness.loaded()
    return bench_in(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", MAKERS)
def test_broken_input_is_one_message(kind: str, bench: harness.Bench) -> None:
    for number in (1,) if kind == "shards" else range(3):
        for found in bench.cases(kind, number):
            # Seconds and bytes are looked at where nothing else runs.
            assert not found.bad or found.bad.endswith((" s", " GB")), found


def test_a_case_is_made_from_its_number_alone(bench: harness.Bench, tmp_path: Path) -> None:
    for kind, make in MAKERS.items():
        made = []
        for name in "ab":
            place = tmp_path / f"{kind}-{name}"
            place.mkdir()
            commands = make(bench.rows, random.Random(f"{kind} 3"), place)
            made.append((commands, {p.name: p.read_bytes() for p in place.rglob("*") if p.is_file()}))
        assert made[0] == made[1]


def test_what_is_bad_is_found(bench: harness.Bench, tmp_path: Path) -> None:
    """A command that breaks is told from one that refuses."""
    (tmp_path / "broken").mkdir()
    bad = harness.run("suites", 0, ["decode"], tmp_path / "broken", bench.data)  # it has no dataset: an IndexError
    assert "IndexError" in bad.bad
    (tmp_path / "good").mkdir()
    assert harness.run("suites", 0, ["nosuch"], tmp_path / "good", bench.data).bad == ""


@pytest.mark.fuzz
def test_the_full_size(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.harness", "--share", "0.02", "--log", str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    again = subprocess.run(command, capture_output=True, text=True)  # all of it is in the log
    assert again.stdout.splitlines()[-4:] == done.stdout.splitlines()[-4:]
