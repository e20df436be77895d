"""The folder of a run goes with it, and that of a dead run with the next one, with the processes that work in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from normbench.runner.folder import run_folder, scratch

#: A run that says where its folder is, starts a process in it, and waits for its end.
RUN = """
import subprocess, sys, time
from normbench.runner.folder import run_folder
with run_folder() as folder:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(500)"], cwd=folder, start_new_session=True)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _folder(run: subprocess.Popen[str]) -> Path:
    assert run.stdout is not None
    return Path(run.stdout.readline().strip())


def _works_in(folder: Path) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(str(folder)):
                found.append(process)
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by Linux' /proc")
def test_a_dead_runs_folder_and_processes_go_with_the_next_run(other: subprocess.Popen[str]) -> None:
    folder = _folder(other)
    with run_folder():
        assert folder.is_dir(), "its run lives"
    assert len(_works_in(folder)) == 1
    other.kill()
    other.wait()
    assert len(_works_in(folder)) == 1
    with run_folder():
        assert not folder.exists()
        assert not _works_in(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by Linux' /proc")
def test_what_works_in_the_folder_ends_with_the_run(other: subprocess.Popen[str]) -> None:
    folder = _folder(other)
    other.communicate()
    assert other.returncode == 0
    assert not folder.exists()
    assert not _works_in(folder)


#: The same with a server of trials.
WITH_SERVER = """
import sys
from normbench.runner.folder import run_folder
from normbench.runner import spawn
with run_folder() as folder, spawn.running():
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.faults
def test_the_server_of_a_killed_run_removes_its_folder() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", WITH_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = _folder(run)
    assert list(folder.glob("server-*/socket"))
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 120
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_folder_is_its_users_alone_and_scratch_lies_in_it() -> None:
    with run_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        with scratch("some-") as inner:
            assert inner.parent == folder
    assert "NORMBENCH_RUN" not in os.environ
    with scratch("some-") as outer:
        assert outer.parent != folder


def test_a_long_name_of_the_temporary_folder_leaves_room_for_rays_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with run_folder() as folder:
        longest = folder / "ray" / "session_2026-01-01_00-00-00_000000_1234567" / "sockets" / "raylet.1"
        assert len(str(longest)) <= 103
