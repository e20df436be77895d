"""Where a site comes from and where it will stand: its repository, its commit, its address. Pages link to them; a site
that knows none of them is whole without.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from normbench.errors import BenchError
from normbench.paths import checkout
from normbench.plan.provenance import provenance

#: Environment variables that say where the repository and the published site stand.
REPOSITORY, ADDRESS = "BENCH_REPOSITORY", "BENCH_SITE_URL"
#: Nothing that a shell or a page could read as anything but an address.
_ADDRESS = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w.~%/-]*)?", re.ASCII)


@dataclass(frozen=True)
class Origin:
    """Each is empty where it is not known."""

    repository: str = ""
    """Web address of the repository, without a slash at its end."""
    address: str = ""
    """Web address of the published site, with a slash at its end."""
    commit: str = ""
    """The commit that holds the code that built the site, and its results; empty where the code was changed since."""

    def file(self, path: str) -> str:
        """The web address of a file of the repository."""
        return f"{self.repository}/blob/{self.commit or 'HEAD'}/{path}" if self.repository else ""


def origin(results: Path | str) -> Origin:
    """Of a site that is built here from the folder `results`.

    The repository is that of `BENCH_REPOSITORY`; in a workflow of GitHub, that which the workflow is of. Raises
    `BenchError` for a variable that holds no web address.
    """
    server, name = os.environ.get("GITHUB_SERVER_URL", ""), os.environ.get("GITHUB_REPOSITORY", "")
    repository = _web(REPOSITORY) or (f"{server}/{name}" if server and name else "")
    address = _web(ADDRESS)
    return Origin(repository.rstrip("/"), f"{address.rstrip('/')}/" if address else "", _commit(results))


def _commit(results: Path | str) -> str:
    root = checkout()
    if root is None or str(results) != str(root / "results"):
        return ""
    found = provenance()
    return str(found["commit"] or "") if found["dirty"] is False else ""


def _web(name: str) -> str:
    text = os.environ.get(name, "").strip()
    if text and not _ADDRESS.fullmatch(text):
        raise BenchError(f"{name}={text[:80]!r}: expected a web address such as https://example.org/normbench")
    return text
