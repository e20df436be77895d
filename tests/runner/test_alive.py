"""A run notices that a part of Ray no longer answers, also where it is stuck in a call to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Listens, watches that, closes the door, and waits for what comes: `{wait}`.
SCRIPT = """
import signal, socket, sys, time
from pathlib import Path
from normbench.errors import BenchError
from normbench.runner.alive import watched

door = socket.create_server(("127.0.0.1", 0))
try:
    with watched({{"head": door.getsockname()}}, Path("cleared").touch):
        door.close()
        {wait}
except BenchError as error:
    print(f"raised: {{error}}")
    sys.exit(error.exit_code)
"""
LOST = "Ray's head was lost; what had finished is stored, and the same command goes on from here\n"


@pytest.mark.parametrize(
    ("wait", "said", "wrote", "cleared"),
    [
        ("time.sleep(500)", "raised: " + LOST, "", False),
        ("raise RuntimeError('Ray noticed it first')", "raised: " + LOST, "", False),
        # as in a call that lets no Python code run
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); time.sleep(500)", "", "bench: " + LOST, True),
    ],
    ids=["waiting", "told by Ray", "stuck"],
)
def test_a_lost_part_of_ray_is_noticed(tmp_path: Path, wait: str, said: str, wrote: str, *, cleared: bool) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(wait=wait)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (3, said, wrote)
    assert (tmp_path / "cleared").exists() is cleared


def test_other_failures_stand_as_they_are(tmp_path: Path) -> None:
    wait = "raise SystemExit(7)"
    answer = subprocess.run([sys.executable, "-c", SCRIPT.format(wait=wait)], cwd=tmp_path, timeout=120)
    assert answer.returncode == 7
