"""A busy machine is ordinary: a tuned run beside twenty processes that never rest."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from normbench.store.verify import verify

from tests.test_cli import Place

pytestmark = pytest.mark.faults

BUSY = 20
#: Never rests, and ends by itself where this process is gone.
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@pytest.fixture
def load() -> Iterator[list[subprocess.Popen[bytes]]]:
    others: list[subprocess.Popen[bytes]] = []
    try:
        others += (subprocess.Popen([sys.executable, "-S", "-c", SPIN], start_new_session=True) for _ in range(BUSY))
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.timeout(1500)
def test_a_tuned_run_beside_twenty_busy_processes_is_whole(
    tmp_path: Path, data_dir: Path, load: list[subprocess.Popen[bytes]]
) -> None:
    """Ray's start takes minutes, and the wall clock passes the limit of a trial: neither costs a trial."""
    place = Place(tmp_path, data_dir)
    path = place.suite(norms="bn, gn", seeds=1, time="30s")
    text = path.read_text(encoding="utf-8").replace("lr: 0.05", "momentum: 0.9")
    path.write_text(text + "tune: {lr: [0.01, 0.05], validation: 0.25}\n", encoding="utf-8")
    run = place.start()
    said, _ = run.communicate(timeout=1400)
    assert [other.poll() for other in load] == [None] * BUSY, "all of them were there all along"
    assert run.returncode == 0, said
    rows = list(place.store.rows())
    assert {(row["status"], row["attempts"]) for row in rows} == {("ok", 1)}, said
    assert Counter(row["stage"] for row in rows) == {"tuning": 4, "final": 2}
    assert verify(place.store) == (6, [])
