"""What the command writes: text from outside stays text, whatever the terminal and the locale are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from normbench.cli.say import MOST, Screen, screen, visible
from normbench.errors import BenchError
from normbench.paths import cache_dir, seconds
from rich.table import Table

from tests.command import bench, process
from tests.matrix import sample

SUITE = """
suite: brackets
about: A test.
data: {dataset: digits, image_size: 8, train_examples: 64, test_examples: 32}
models: [resnet18]
norms: ["gn[groups=8]", "gn[groups=4]", bn]
batch_sizes: [16]
widths: [0.125]
seeds: 1
train: {epochs: 1, lr: 0.05}
"""
HOSTILE = ["[/x]", "[bold]", "\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\u202egnp.exe", "\r", ":smile:", "é ✓"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_obeyed(text: str) -> None:
    table = Table(box=None)
    table.add_column(text)
    table.add_row(text)
    with io.StringIO() as out:
        console = Screen(file=out, width=100, markup=False, highlight=False, emoji=False, force_terminal=True)
        console.print(table)
        console.print(text)
        shown = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")  # the heading is bold
    assert visible(text).isprintable()
    assert [line.strip() for line in shown.splitlines()] == [visible(text)] * 3
    assert not set(shown) & {"\x1b", "\x9b", "\x07", "\u202e", "\r"}


def test_a_column_is_as_wide_as_what_is_shown(tmp_path: Path) -> None:
    name = "[/x]\x1b[2J\x1b[2J"
    lines = [f"{method},{seed},0.{value}{seed}" for method, value in ((name, 5), ("b", 1)) for seed in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(["method,seed,accuracy", *lines]), encoding="utf-8")
    assert f" {visible(name)} " in bench("rank", "t.csv", cwd=tmp_path).stdout


def test_a_long_text_is_cut() -> None:
    shown = visible("x" * 10_000_000)
    assert len(shown) < MOST + 50
    assert shown.endswith("... (10,000,000 characters)")


def test_brackets_are_text(tmp_path: Path) -> None:
    (tmp_path / "s[x].yaml").write_text(SUITE, encoding="utf-8")
    assert "norm: gn[groups=8], gn[groups=4], bn" in bench("plan", "s[x].yaml", "--results", "r", cwd=tmp_path).stdout
    board = bench("board", "s[x].yaml", "--results", "r[old]", cwd=tmp_path)
    assert f"{tmp_path}/r[old]: there is no such folder" in board.stderr
    (tmp_path / "r[old]").mkdir()
    board = bench("board", "s[x].yaml", "--results", "r[old]", cwd=tmp_path)
    assert f"no results of brackets in {tmp_path}/r[old] yet" in board.stdout
    for path in ("[/x]", "\x1b[2J"):
        for answer in (bench("board", path, cwd=tmp_path), bench("results", "verify", "--results", path, cwd=tmp_path)):
            assert "Traceback" not in answer.stderr
            assert "\x1b" not in answer.stdout + answer.stderr
    assert "[default: BENCH_DATA]" in " ".join(bench("plan", "--help", cwd=tmp_path).stdout.split())


@pytest.mark.parametrize("encoding", sample(["ascii", "latin-1"], ["ascii"]))
def test_a_poor_locale_replaces_characters(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "s.yaml").write_text(SUITE, encoding="utf-8")
    for verb in (("board", "digits"), ("plan", "s.yaml", "--results", "é")):
        answer = subprocess.run(
            [sys.executable, "-m", "normbench.cli.main", *verb],
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"},
            capture_output=True,
        )
        assert answer.returncode == 0, answer.stderr
    answer = process("norms", "--json", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert answer.stdout.isascii()
    assert json.loads(answer.stdout)


def test_a_full_standard_output_is_one_message(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "normbench.cli.main", "norms"]
        answer = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 2
    assert answer.stderr == "bench: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf", "\x1b[2J"])
def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NORMBENCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(BenchError, match=r"NORMBENCH_CHECKPOINT_SECONDS=.*expected seconds"):
        seconds("NORMBENCH_CHECKPOINT_SECONDS", 120.0)
    monkeypatch.setenv("NORMBENCH_CHECKPOINT_SECONDS", "2.5")
    assert seconds("NORMBENCH_CHECKPOINT_SECONDS", 120.0) == 2.5
    monkeypatch.delenv("NORMBENCH_CHECKPOINT_SECONDS")
    assert seconds("NORMBENCH_CHECKPOINT_SECONDS", 120.0) == 120.0


def test_without_a_home_folder_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(BenchError, match="BENCH_CACHE"):
        cache_dir()


def test_a_console_reads_no_markup() -> None:
    console = screen()
    with console.capture() as shown:
        console.print("[bold]x[/bold] :smile:")
    assert shown.get() == "[bold]x[/bold] :smile:\n"
