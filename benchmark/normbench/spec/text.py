"""Numbers as people write them, read and shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BeforeValidator


def show(value: Any) -> str:
    """A parameter as a person writes it: 0.00784... as `2/255`, 0.25 as itself, a list as `a;b`, the rest as `str`
    does.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        pixels = value * 255
        if 0 < value < 1 and float(f"{value:.3g}") != value and abs(pixels - round(pixels)) < 1e-9:
            return f"{round(pixels)}/255"
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ";".join(show(v) for v in value)
    return str(value)


def parameters(values: Mapping[str, Any]) -> str:
    """Parameters as they are written in brackets, `eps=2/255, steps=20`; one without a value by its name alone."""
    return ", ".join(key if value is None else f"{key}={show(value)}" for key, value in values.items())


_FRACTION = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*/\s*([\d.]+(?:[eE][-+]?\d+)?)\s*")


def number(value: Any) -> Any:
    """Read `8/255` and `5e-4` (a string in YAML 1.1) as numbers; anything else is left to the validator behind."""
    if isinstance(value, str):
        if match := _FRACTION.fullmatch(value):
            try:
                return float(match[1]) / float(match[2])
            except (ValueError, ZeroDivisionError):
                return value
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: Put into `Annotated[float, Number, Field(...)]`: a float that may be written as a fraction.
Number = BeforeValidator(number, json_schema_input_type=float | str)


_NUMBERS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?![\w.])", re.IGNORECASE)


def natural(text: str) -> tuple[list[str | float], str]:
    """A key to sort texts by in which numbers count as numbers: `batch 8` comes before `batch 128`."""
    pieces: list[str | float] = [float(p) if i % 2 else p for i, p in enumerate(_NUMBERS.split(text))]
    return pieces, text


def bounded(text: str, limit: int, *, end: bool = False) -> str:
    """The beginning of `text`, or its end, of at most `limit` bytes of valid UTF-8; what cannot be encoded becomes
    `?`.
    """
    data = text.encode(errors="replace")
    return (data[-limit:] if end else data[:limit]).decode(errors="ignore") if len(data) > limit else data.decode()


def closest(text: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Of what is known, that which is most like a text: several where they are equally like it, those that begin like
    it first. `difflib` alone names the last of the alphabet, so that `gm` would mean `gw` and not `gn`.
    """
    known = list(dict.fromkeys(known))
    best = difflib.get_close_matches(text, known, 1, cutoff)
    if not best:
        return []
    matcher = difflib.SequenceMatcher(b=text)

    def alike(other: str) -> float:
        matcher.set_seq1(other)
        return matcher.ratio()

    most = alike(best[0])
    return sorted((o for o in known if alike(o) == most), key=lambda o: (o[:1] != text[:1], o))[:3]


def one_line(text: str) -> str:
    """A text on one line: white space of every kind is a blank, what cannot be printed is U+FFFD."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def said(error: BaseException) -> str:
    """The text of an exception on one line, also where it has none that can be had."""
    try:
        return " ".join(str(error).split())
    except BaseException as broken:  # a `__str__` may raise anything
        return f"(its text raises {type(broken).__name__})"


def plain(value: Any, limit: int) -> Any:
    """JSON values in which every string is `bounded`."""
    if isinstance(value, str):
        return bounded(value, limit)
    if isinstance(value, dict):
        return {plain(k, limit): plain(v, limit) for k, v in value.items()}
    return [plain(v, limit) for v in value] if isinstance(value, list | tuple) else value
