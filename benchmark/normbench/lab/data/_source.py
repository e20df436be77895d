"""What is known of a dataset before it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from normbench.errors import BenchError

#: A name that cannot lead out of its folder, and that matches only itself as a pattern.
PLAIN = re.compile(r"\w[\w.@ +-]*")


class DataError(BenchError):
    """A dataset is missing or not in the image layout; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Hub:
    """A dataset on the Hugging Face hub: repository, folder of the configuration, columns."""

    repo: str
    folder: str | None = None
    image: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Source:
    """The Parquet files of a dataset on this machine. `test` is empty for a candidate, which must not see it."""

    name: str
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    image: str | None
    label: str | None
