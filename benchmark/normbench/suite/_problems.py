"""What is wrong with a suite file, and where."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from normbench.errors import BenchError

#: Keys and list positions from the top of a file to a value: `("train", "lr", 1)`.
Location = tuple[str | int, ...]

#: Problems that a message names.
MOST = 100

_PLAIN = re.compile(r"[\w-]{1,60}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; None where the file as a whole is meant."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class SuiteError(BenchError, ValueError):
    """A suite cannot be read or expanded. `problems` holds all that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        more = len(self.problems) - MOST
        rest = [f"and {more:,} more problems"] if more > 0 else []
        super().__init__("\n".join([*map(str, self.problems[:MOST]), *rest]))


class Finding(NamedTuple):
    """A problem before its place is known as file and line."""

    location: Location
    message: str
    line: int | None = None


def written(location: Location) -> str:
    """A location as people write it: `attacks[0].bim.eps[2]`."""
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part if _PLAIN.fullmatch(part) else found(part)}"
        for part in location
    )
    return text.removeprefix(".")


def found(value: Any) -> str:
    """A value in a message, kept short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    return short(text)


def short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"


def nearest(value: Any, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` where something known is close, else nothing."""
    near = difflib.get_close_matches(value, known, 1) if isinstance(value, str) and len(value) <= 100 else []
    return f"; did you mean {near[0]!r}?" if near else ""
