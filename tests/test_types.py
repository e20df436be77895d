"""`mypy --strict` finds nothing. It is a test, so that it runs beside the others: alone it keeps one core idle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_mypy_finds_nothing() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
