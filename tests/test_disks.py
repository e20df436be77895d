"""Disks and folders that refuse: whatever a command reads or writes there ends in one message and exit code 2, and
nothing half-written stays. The faults are real ones: a file system of a few kilobytes, one that is read-only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from normbench.cli.main import main
from normbench.store.store import Store

from tests.conftest import MakeTrial
from tests.store.samples import contents, fill

SUITE = """
suite: s
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn]
batch_sizes: [16]
widths: [0.125]
seeds: 2
train: {epochs: 1, lr: 0.05}
"""


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A file system in memory at `place`."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a file system, and not in every container")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def _full(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "ballast").open("wb", 0) as file:
        while True:
            file.write(b"x" * 1024)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a place of a kind where nothing can be written."""
    with contextlib.ExitStack() as opened:

        def place(kind: str) -> str:
            disk = tmp_path / "disk"
            if kind == "full":
                opened.enter_context(mounted(disk, "size=16k"))
                _full(disk)
            elif kind == "small":  # a part of a file fits
                opened.enter_context(mounted(disk, "size=16k"))
            elif kind == "read-only":
                opened.enter_context(mounted(disk, "size=16k,ro"))
            elif kind == "file":
                disk.write_text("a file", encoding="utf-8")
            elif kind == "below a file":
                disk.write_text("a file", encoding="utf-8")
                return str(disk / "x")
            elif kind == "not allowed":
                return "/sys/normbench"
            elif kind == "loop":
                disk.symlink_to(disk)
            elif kind == "long":
                return str(tmp_path / ("x" * 300))
            elif kind == "missing":
                return str(tmp_path / "nowhere")
            else:
                raise AssertionError(kind)
            return str(disk)

        yield place


@pytest.fixture
def there(tmp_path: Path, make_trial: MakeTrial, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a suite, and results of it."""
    monkeypatch.setenv("BENCH_DATA", str(data_dir))
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SUITE, encoding="utf-8")
    fill(Store(tmp_path / "r"), make_trial, range(2))
    return tmp_path


WRITES = {
    "site": ["site", "--results", "r", "--out", "{}"],
    "export": ["results", "export", "{}", "--results", "r"],
    "merge": ["results", "merge", "r", "{}"],
    "new": ["new", "norm", "mine", "--folder", "{}"],
}
REFUSING = ("full", "small", "read-only", "file", "below a file", "not allowed", "loop", "long")
READS = {
    "verify": ["results", "verify", "--results", "{}"],
    "board": ["board", "s.yaml", "--results", "{}"],
    "status": ["status", "s.yaml", "--results", "{}"],
    "check": ["results", "check", "--results", "{}"],
    "gc": ["results", "gc", "--results", "{}"],
    "data": ["plan", "s.yaml", "--results", "r", "--data", "{}"],
    "suite": ["plan", "{}", "--results", "r"],
    "table": ["rank", "{}"],
}
UNREADABLE = ("missing", "file", "below a file", "loop", "long")
VARIABLES = [
    ("BENCH_RESULTS", "s3://", ["results", "verify"]),
    ("BENCH_RESULTS", "gs:///", ["board", "s.yaml"]),
    ("BENCH_RESULTS", "nosuchscheme://x/y", ["results", "verify"]),
    ("BENCH_RESULTS", "/nowhere", ["site"]),
    ("BENCH_RESULTS", "s.yaml", ["results", "verify"]),
    ("BENCH_DATA", "/nowhere", ["plan", "s.yaml", "--results", "r"]),
    ("BENCH_DATA", "s.yaml", ["plan", "s.yaml", "--results", "r"]),
    ("BENCH_DATA", "x" * 5000, ["doctor"]),
    ("TMPDIR", "/nowhere", ["run", "s.yaml", "--results", "new"]),
    ("TMPDIR", "/sys", ["run", "s.yaml", "--results", "new"]),
    ("TMPDIR", "s.yaml", ["run", "s.yaml", "--results", "new"]),
    ("BENCH_CACHE", "/sys/normbench", ["run", "s.yaml", "--results", "new"]),
    ("BENCH_CACHE", "s.yaml", ["run", "s.yaml", "--results", "new"]),
    ("BENCH_CACHE", "/dev/full", ["run", "s.yaml", "--results", "new"]),
]


def ends(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Run `bench` in this process. What it says on standard error, once it is one message and exit code 2."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    monkeypatch.setattr(tempfile, "tempdir", None)
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert said.startswith("bench: "), said
    assert said.count("\nbench: ") == 0
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("kind", REFUSING)
@pytest.mark.parametrize("verb", WRITES)
def test_what_cannot_be_written_is_one_message(
    verb: str,
    kind: str,
    there: Path,
    disks: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if (verb, kind) in {("new", "small"), ("export", "small"), ("merge", "small")}:
        pytest.skip("what it writes fits")
    place = disks(kind)
    before = contents(there)
    said = ends([part.format(place) for part in WRITES[verb]], monkeypatch, capfd)
    assert Path(place).name in said or verb == "site"
    assert sorted(contents(there)) == sorted(before)
    assert contents(there) == before


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("verb", READS)
def test_what_cannot_be_read_is_one_message(
    verb: str,
    kind: str,
    there: Path,
    disks: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = disks(kind)
    before = contents(there)
    said = ends([part.format(place) for part in READS[verb]], monkeypatch, capfd)
    assert Path(place).name[:40] in said
    assert contents(there) == before


@pytest.mark.parametrize(("name", "value", "arguments"), VARIABLES, ids=[f"{n}={v[:20]}" for n, v, _ in VARIABLES])
def test_what_a_variable_says_is_one_message_that_names_it(
    name: str,
    value: str,
    arguments: list[str],
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    before = contents(there / "r")
    assert name in ends(arguments, monkeypatch, capfd)
    assert contents(there / "r") == before
    assert not list((there / "new").glob("**/*.parquet"))


@pytest.mark.parametrize("home", ["relative", None])
def test_without_a_home_folder_the_message_names_the_variable(
    home: str | None, there: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert "HOME" in (said := ends(["run", "s.yaml", "--results", "new"], monkeypatch, capfd))
    assert "BENCH_CACHE" in said


@pytest.mark.parametrize("verb", [["compact", "--results", "{}"], ["gc", "--yes", "--results", "{}"]])
def test_results_that_became_read_only_stay(
    verb: list[str],
    there: Path,
    tmp_path: Path,
    make_trial: MakeTrial,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        fill(Store(disk), make_trial, range(2))
        left = disk / "s" / ".0123456789abcdef.parquet.0123456789abcdef0123456789abcdef.tmp"
        left.write_bytes(b"left")
        os.utime(left, (0, 0))
        before = contents(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ends(["results", *(part.format(disk) for part in verb)], monkeypatch, capfd)
        assert contents(disk) == before


def test_a_closed_or_full_standard_output_is_one_message(there: Path) -> None:
    command = [sys.executable, "-m", "normbench.cli.main", "board", "s.yaml", "--results", "r"]
    for redirected, why in ((">&-", "it is closed"), ("> /dev/full", "No space left on device")):
        answer = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirected}', "sh", *command], cwd=there, stderr=subprocess.PIPE, text=True
        )
        assert answer.returncode == 2
        assert answer.stderr == f"bench: cannot write to standard output: {why}\n"


def test_a_working_directory_that_vanished_is_one_message(there: Path) -> None:
    (there / "gone").mkdir()
    command = [sys.executable, "-m", "normbench.cli.main", "board", "digits"]
    answer = subprocess.run(
        ["sh", "-c", 'cd gone && rmdir "$PWD" && exec "$@"', "sh", *command],
        cwd=there,
        env=os.environ | {"BENCH_RESULTS": "r"},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 2
