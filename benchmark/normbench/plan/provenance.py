"""Where a result comes from: the commit of this package and the versions of what it was computed with."""

from __future__ import annotations

import subprocess
from typing import Any

import normbench
from normbench.paths import checkout
from normbench.plan.identity import library_versions


def provenance() -> dict[str, Any]:
    """Version of this package, commit and whether the tree differed from it (both None outside a checkout), library
    versions.
    """
    return {"normbench": normbench.__version__, **_commit(), "versions": library_versions()}


def _commit() -> dict[str, Any]:
    root = checkout()
    if root is None:
        return {"commit": None, "dirty": None}
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        # results are what a run writes: they must not make the code look changed
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", ".", ":!results"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(status.strip())}
