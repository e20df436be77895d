"""Where a result comes from: the commit of this package and the versions of what it was computed with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import normbench
from normbench.paths import checkout
from normbench.plan.identity import library_versions


def provenance() -> dict[str, Any]:
    """Version of this package, commit and whether the tree differed from it (both None outside a checkout), library
    versions.
    """
    return {"normbench": normbench.__version__, **_commit(checkout()), "versions": library_versions()}


def _commit(root: Path | None) -> dict[str, Any]:
    """Commit and state of the repository whose work tree is `root`; never of another that `root` may lie in, or that
    git was told to use.
    """
    try:
        if root is None or Path(_git(root, "rev-parse", "--show-toplevel").rstrip("\n")).resolve() != root.resolve():
            return {"commit": None, "dirty": None}
        # Results are what a run writes: they must not make the code look changed.
        changed = _git(root, "status", "--porcelain", "--", ".", ":!results")
        return {"commit": _git(root, "rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(root: Path, *arguments: str) -> str:
    """The answer of git for `root`, without variables such as GIT_DIR: hooks set them, and they name another
    repository.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", *arguments]
    told = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True).stdout
    return told.decode("utf-8", "replace")
