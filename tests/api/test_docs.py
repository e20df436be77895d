"""The snippets of docs/python.md and of the README, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import normbench as nb
import pytest

from tests.api.test_runs import filled

ROOT = Path(nb.__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def snippets(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text())


def test_the_page_works_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials that it runs have been run in this process before, so that no Ray is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    scope: dict[str, Any] = {}
    blocks = snippets("docs/python.md")
    assert len(blocks) >= 9
    for block in blocks:
        before, run, after = block.partition("ran = nb.run(")
        exec(compile(before, "docs/python.md", "exec"), scope)
        if run:
            filled(tmp_path / "tiny-results", None, scope["suite"])
            exec(compile(run + after, "docs/python.md", "exec"), scope)
    assert scope["ran"].cached == 2
    assert len(scope["attacks"]) == 6
    assert len(scope["board"]) == 1


def test_the_readme_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("BENCH_RESULTS", raising=False)
    scope: dict[str, Any] = {}
    for block in snippets("README.md"):
        exec(compile(block, "README.md", "exec"), scope)
    assert len(scope["frame"])
