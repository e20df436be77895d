"""A suite as Python writes it: mappings, lists, text and numbers in place of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from normbench.suite._problems import Finding, Location, found
from normbench.suite._yaml import MAX_DEPTH, Document


def document(value: Any) -> Document:
    """The document that a file with these values would be; its lines mean nothing.

    Tuples and ranges are lists, paths are text, and what has a `tolist`, as arrays and scalars of numpy have, is what
    that gives. Anything else becomes a finding.
    """
    made = Document()
    made.value = _plain(value, (), made)
    return made


def _plain(value: Any, location: Location, made: Document) -> Any:
    made.lines[location] = 1
    if len(location) > MAX_DEPTH:
        return _spoil(made, location, f"nested deeper than {MAX_DEPTH} levels")
    if hasattr(value, "tolist"):
        value = value.tolist()
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _spoil(made, location, f"expected a finite number, found {value}")
        case PathLike():
            return fspath(value)
        case list() | tuple() | range():
            return [_plain(item, (*location, i), made) for i, item in enumerate(value)]
        case Mapping():
            for key in (key for key in value if not isinstance(key, str)):
                made.findings.append(Finding(location, f"a key must be text, found {found(key)}"))
            return {k: _plain(v, (*location, k), made) for k, v in value.items() if isinstance(k, str)}
    return _spoil(
        made, location, f"expected text, a number, a list or a mapping, found a value of type {type(value).__name__}"
    )


def _spoil(made: Document, location: Location, message: str) -> None:
    made.findings.append(Finding(location, message))
    made.spoiled.add(location)
