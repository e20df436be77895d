"""The command within this process, on results that were committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from normbench.cli.main import app
from normbench.errors import BenchError
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
Bench = Callable[..., str]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs the command in the checkout and gives what it prints; an error raises."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, code: int = 0, **environment: str) -> str:
        result = CliRunner().invoke(app, arguments, env=environment)
        if isinstance(result.exception, BenchError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return run
