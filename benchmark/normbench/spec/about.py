"""What a suite says of itself, and what its datasets hold: no part of a trial, kept beside the results that it is
about.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, PositiveInt

from normbench.spec.trial import Value


class Role(StrEnum):
    """What a suite is for. Boards of the headline stand first; those of an example never among the winners."""

    HEADLINE = "headline"
    STUDY = "study"
    EXAMPLE = "example"

    @property
    def height(self) -> int:
        """The larger, the further in front."""
        return list(reversed(Role)).index(self)


class Headline(Value):
    """The robustness number that a suite is about, named before anything is run."""

    attack: str
    """An attack of the suite, or the worst case of all its attacks within a ball: `worst-linf`, `worst-l2`,
    `worst-l1`.
    """
    size: Annotated[float, Field(gt=0)]
    """One of its sizes, in pixel space [0, 1]."""

    @property
    def key(self) -> str:
        """The key of the metric on boards."""
        return f"{self.attack}@{self.size:.9g}"


class Images(Value):
    """What a dataset holds, before a suite takes its part."""

    train: PositiveInt
    """Training images."""
    test: PositiveInt
    """Test images."""
    side: PositiveInt | None
    """Height and width as stored, in pixels; None where they differ."""


class About(Value):
    """What a suite says of itself."""

    # A later version may say more of a suite; that is no reason to hide its results from this one.
    model_config = ConfigDict(extra="ignore")

    about: Annotated[str, Field(max_length=2000)] = ""
    role: Role = Role.STUDY
    headline: Headline | None = None
    datasets: dict[str, Images] = {}  # noqa: RUF012
    """By the fingerprint of the content that rows carry."""
