"""What CI may do: rules that hold for every workflow, and what of a pull request from outside gets to the checker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.y*ml"))
#: What a job may write, by workflow and job. All others may read the repository, at most.
WRITES = {
    ("pages.yml", "publish"): {"pages": "write", "id-token": "write"},
    ("release.yml", "publish"): {"actions": "read", "id-token": "write"},
}


def workflow(name: str) -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / name).read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads the key so
    return found  # type: ignore[no-any-return]


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert {"ci.yml", "methods.yml", "pages.yml", "results.yml"} <= set(NAMES)


def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    if not zizmor.is_file():
        pytest.skip("needs zizmor in this environment")
    answer = subprocess.run([zizmor, "--offline", "--no-progress", FOLDER], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned_and_jobs_may_do_little(name: str) -> None:
    """An action by the digest of a commit, with its version beside it; no secret; no text of others in a command."""
    text = (FOLDER / name).read_text()
    for action in re.findall(r"uses: *(.+)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert "secrets" not in re.sub(r"#.*", "", text)
    assert workflow(name)["permissions"] == {}
    for job, content in workflow(name)["jobs"].items():
        assert content["permissions"] == WRITES.get((name, job), {"contents": "read"})
        assert content["timeout-minutes"] <= 120
    for step in steps(name):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        if step.get("uses", "").startswith("astral-sh/setup-uv@"):
            assert step["with"]["enable-cache"] is (name != "release.yml"), (
                "what others may have cached is not released"
            )


@pytest.mark.parametrize("name", NAMES)
def test_code_of_others_never_runs_where_the_base_branch_decides(name: str) -> None:
    """`pull_request` runs what the request brings, so it makes nothing that is merged; `pull_request_target` runs the
    base branch, and so it must not check out anything else.
    """
    triggers = set(workflow(name)["on"])
    assert not triggers & {"workflow_run", "issue_comment"}
    commands = "\n".join(step.get("run", "") for step in steps(name))
    uploads = any(step.get("uses", "").startswith("actions/upload") for step in steps(name))
    if "pull_request" in triggers:
        assert not uploads
        assert "check-results" not in commands
    if "pull_request_target" in triggers:
        assert triggers == {"pull_request_target"}
        for step in steps(name):
            assert not {"ref", "repository"} & set(step.get("with", {}))
        assert re.findall(r"git (?:checkout|switch|merge|reset|pull|worktree)", commands) == []
        assert commands.index("pip install") < commands.index("git fetch"), "nothing of the request is installed"


def test_what_is_contributed_is_checked() -> None:
    kinds = {"norms", "attacks", "measures"}
    assert workflow("methods.yml")["on"]["pull_request"]["paths"] == [
        f"benchmark/normbench/{kind}/**" for kind in ("norms", "attacks", "measures")
    ]
    script = (ROOT / ".ci" / "check-methods").read_text()
    assert all(kind in script for kind in kinds)
    assert all((ROOT / path).exists() for path in re.findall(r"\btests/[\w/.]+", script))


def git(place: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    answer = subprocess.run(["git", *own, *arguments], cwd=place, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A repository of which a request was made; its main branch has moved on since."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "take-results", tmp_path / ".ci")
    (tmp_path / "results" / "s").mkdir(parents=True)
    for name in ("old", "changed", "gone"):
        (tmp_path / "results" / "s" / f"{name}.parquet").write_text("before")
    (tmp_path / "code.py").write_text("before")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "base")
    git(tmp_path, "branch", "request")
    (tmp_path / "results" / "s" / "old.parquet").write_text("moved on")
    git(tmp_path, "commit", "-qam", "meanwhile")
    git(tmp_path, "checkout", "-q", "request")
    return tmp_path


def take(base: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Commit what the working folder holds as the request, and take its results into the main branch."""
    git(base, "add", "-A")
    git(base, "commit", "-qm", "request")
    commit = git(base, "rev-parse", "HEAD")
    git(base, "checkout", "-q", "main")
    return subprocess.run([base / ".ci" / "take-results", commit], capture_output=True, text=True, env=settings | PATH)


PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_results_are_taken_and_nothing_else_moves(base: Path) -> None:
    folder = base / "results" / "s"
    (folder / "changed.parquet").write_text("after")
    (folder / ":(glob)**.parquet").write_text("named like a pattern")
    (folder / "new ü.parquet").write_text("after")
    (folder / "gone.parquet").unlink()
    answer = take(base)
    assert answer.returncode == 0, answer.stderr
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "changed.parquet": "after",
        ":(glob)**.parquet": "named like a pattern",
        "new ü.parquet": "after",
        "gone.parquet": "before",
        "old.parquet": "moved on",
    }
    staged = git(base, "-c", "core.quotePath=false", "diff", "--merge-base", "--name-only", "HEAD").splitlines()
    assert len(staged) == 3, "what `bench results check --since HEAD` looks at"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("code.py", "touch nothing but results/"),
        (".ci/check-results", "touch nothing but results/"),
        ("results.py", "touch nothing but results/"),
        ("results/s/code.py", "expected plain files"),
        ("results/.gitattributes", "expected plain files"),
        ("results/s/reproductions.jsonl", "marks come from maintainers"),
    ],
)
def test_code_and_marks_of_a_request_are_refused(base: Path, path: str, message: str) -> None:
    (base / "results" / "s" / "new.parquet").write_text("after")
    (base / path).write_text("after")
    answer = take(base)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert path in answer.stderr
    assert git(base, "status", "--porcelain") == ""


def test_links_programs_and_moved_files_are_refused(base: Path) -> None:
    folder = base / "results" / "s"
    (folder / "link.parquet").symlink_to("/etc/passwd")
    (folder / "program.parquet").write_text("#!/bin/sh")
    (folder / "program.parquet").chmod(0o755)
    answer = take(base)
    assert answer.returncode == 1
    assert "link.parquet" in answer.stderr
    assert "program.parquet" in answer.stderr
    git(base, "checkout", "-q", "-B", "request", "main")
    git(base, "mv", "code.py", "results/s/moved.parquet")
    assert "touch nothing but results/" in take(base).stderr


def test_a_maintainer_may_bring_marks(base: Path) -> None:
    (base / "results" / "s" / "reproductions.jsonl").write_text("{}\n")
    answer = take(base, MAINTAINER="true")
    assert answer.returncode == 0, answer.stderr
    assert (base / "results" / "s" / "reproductions.jsonl").exists()
