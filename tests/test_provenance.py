"""Where a result says that it comes from: this checkout and no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from normbench.plan.provenance import _commit


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "file").write_text("1")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def test_a_checkout_tells_its_commit_and_whether_it_was_changed(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert _commit(repository) == {"commit": commit, "dirty": False}
    (repository / "results").mkdir()
    (repository / "results" / "row").write_text("what a run writes is no change")
    assert _commit(repository)["dirty"] is False
    (repository / "inner" / "file").write_text("2")
    assert _commit(repository) == {"commit": commit, "dirty": True}


def test_a_copy_inside_another_repository_has_no_commit(repository: Path) -> None:
    assert _commit(repository / "inner") == {"commit": None, "dirty": None}
    assert _commit(None) == {"commit": None, "dirty": None}


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CEILING_DIRECTORIES"])
def test_what_a_hook_has_told_git_does_not_matter(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "two")
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv(variable, str(other / ".git"))
    assert _commit(repository) == {"commit": commit, "dirty": False}
