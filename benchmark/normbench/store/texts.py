"""The JSON that columns hold as text: what it must be for the code that reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from normbench.spec.trial import TrainSpec, Trial

#: Levels of nesting. An audit has three, a specification five.
DEPTH = 20


class _Said(BaseModel):
    """What is read of a mapping; it may hold more."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Parts(_Said):
    """See `normbench.plan.identity.Identity`."""

    spec: str | None = None
    data: str | None = None
    code: dict[str, str] = {}
    protocol: int | None = None
    versions: dict[str, str] = {}
    device_class: str | None = None
    precision: str | None = None
    no_choice: str = ""


class _Layer(_Said):
    channels: int = 0


class _Audit(_Said):
    """See `normbench.lab.network.swap.Audit`."""

    replaced: list[_Layer] | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    scale_invariant: list[str] | None = None
    weights: int | None = None


class _Facts(_Said):
    """Of the provenance, what more than its page reads."""

    tuned: list[Literal[tuple(n for n in TrainSpec.model_fields if n != "adversarial")]] | None = None  # type: ignore[valid-type]
    device: str | None = None
    precision: str | None = None
    threads: Annotated[int, Field(ge=1, le=2**20)] | None = None


@dataclass(frozen=True)
class Shape:
    """What a text must be. `read` raises where it is not. `varies`: a pattern, and what stands in its place, for what
    differs from trial to trial and decides nothing here.
    """

    told: str
    read: Callable[[str, Any], object] = field(repr=False)
    varies: tuple[str, str] | None = None

    def alike(self, array: pa.Array) -> pa.Array:
        """The texts with what varies made the same."""
        return pc.replace_substring_regex(array, *self.varies) if self.varies else array

    def problem(self, text: str) -> str:
        """What is wrong with a text; empty where nothing is."""
        return _problem(self, text)


@lru_cache(4096)
def _problem(shape: Shape, text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if problem := next(_oddities(value), ""):
            return f"{problem}, expected {shape.told}"
        shape.read(text, value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:100]
        return f"is not {shape.told}: {place + ': ' if place else ''}{first['msg'][:200]}"
    except (ValueError, RecursionError) as error:
        return f"is not {shape.told}: {' '.join(str(error).split())[:200]}"
    return ""


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _oddities(value: Any, depth: int = 1) -> Iterator[str]:
    """What JSON may hold and no value of ours does."""
    if depth > DEPTH:
        yield f"is nested deeper than {DEPTH} levels"
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield "holds half a character"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _oddities(key, depth)
            yield from _oddities(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _oddities(item, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield "holds a number that is not finite"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield "holds a number beyond 64 bits"


def _trial(text: str, value: Any) -> None:
    """As `Trial` writes it: no field is left to a default, no number stands as text."""
    if Trial.model_validate_json(text, strict=True).model_dump(mode="json") != value:
        raise ValueError("it is not written as a resolved specification is")


def _typed(kind: Any) -> Callable[[str, Any], object]:
    adapter = TypeAdapter(kind)
    return lambda text, _: adapter.validate_json(text, strict=True)


_Seconds = dict[str, Annotated[float, Field(allow_inf_nan=False)]]

SPEC = Shape("a trial's specification as JSON", _trial, (r'"seed":[0-9]{1,9}([,}])', r'"seed":0\1'))
PARTS = Shape("the parts of an identity as JSON", _typed(_Parts), (r'"spec":"[0-9a-f]{16}"', r'"spec":""'))
AUDIT = Shape("what a swap did as JSON", _typed(_Audit))
FACTS = Shape("a mapping of facts as JSON", _typed(_Facts))
SECONDS = Shape("seconds by name as JSON", _typed(_Seconds))
