"""A suite, and the part of it that is wanted, as callers write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from normbench.errors import BenchError
from normbench.spec.trial import Scalar
from normbench.suite import Suite, from_values, load

#: A file, the name of a suite, a suite that was loaded, or a mapping of the keys that a file would have.
SuiteLike = str | PathLike[str] | Suite | Mapping[str, Any]
#: `"norm=gn"`, several of these, or `{"norm": ["gn", "bn"], "seed": 0}`. Values of one key are alternatives; a trial
#: must match every key.
Only = str | Sequence[str] | Mapping[str, Scalar | Sequence[Scalar | None] | None]


def suite_of(given: SuiteLike) -> Suite:
    """Raises `SuiteError` with all that is wrong with it."""
    match given:
        case Suite():
            return given
        case Mapping():
            return from_values(given)
        case str():
            return load(given)
        case PathLike():
            return load(Path(given))
    raise BenchError(
        "suite: expected a file, the name of a suite, or a mapping of the keys that a file would have, found "
        f"{type(given).__name__}"
    )


def filters(only: Only) -> list[str]:
    """As the command takes them: `norm=gn`."""
    match only:
        case str():
            return [only]
        case Mapping():
            return [f"{key}={_written(value)}" for key, given in only.items() for value in _each(given)]
        case list() | tuple() if all(isinstance(item, str) for item in only):
            return list(only)
    raise BenchError(
        'only: expected "norm=gn", a list of such texts, or a mapping such as {"norm": "gn", "seed": [0, 1]}, found '
        f"{only!r:.60}"
    )


def _each(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple | range) else (given,)


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
