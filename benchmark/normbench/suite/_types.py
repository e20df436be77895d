"""From one resolved value to an axis: types of a suite file, made from the fields of `normbench.spec.trial`.

A field's constraints are stated once, in the trial. Here a scalar becomes "one value or a list". The message about a
value that does not fit is made from the same constraints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types as at
from pydantic import (
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from normbench.spec.text import number
from normbench.spec.trial import Value
from normbench.suite._problems import Location, found, nearest

M = TypeVar("M", bound=BaseModel)


def refused(message: str) -> PydanticCustomError:
    """The error of a value, in words of our own."""
    return PydanticCustomError("suite", "{message}", {"message": message})


def refused_within(problems: list[tuple[Location, str]]) -> PydanticCustomError:
    """Several errors at places below a value."""
    return PydanticCustomError("suite_within", "{first}", {"first": problems[0][1], "problems": problems})


def short_text(value: Any, example: str) -> str:
    """Check that a value is a text, short enough for a name. example: what was expected, for the message."""
    if not isinstance(value, str) or len(value) > 1000:
        raise refused(f"expected {example}, found {found(value)}")
    return value


def parts(kind: Any, metadata: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """The members of a type, taken out of `Annotated` and unions, each with its constraints."""
    if get_origin(kind) is Annotated:
        inner, *own = get_args(kind)
        flat = tuple(m for item in own for m in (item.metadata if isinstance(item, FieldInfo) else [item]))
        return parts(inner, (*metadata, *flat))
    if get_origin(kind) in (Union, UnionType):
        return [p for member in get_args(kind) for p in parts(member, metadata)]
    return [(kind, metadata)]


def is_scalar(kind: Any) -> bool:
    return all(
        member in (bool, int, float, str, NoneType) or get_origin(member) is Literal for member, _ in parts(kind)
    )


def allowed(kind: Any, metadata: tuple[Any, ...] = ()) -> str:
    """What a type takes, for people: `a whole number, at least 1 and at most 100000`."""
    return " or ".join(_allowed(member, own) for member, own in parts(kind, metadata))


def _allowed(kind: Any, metadata: tuple[Any, ...]) -> str:
    if get_origin(kind) is Literal:
        choices = [found(choice) if len(get_args(kind)) == 1 else str(choice) for choice in get_args(kind)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if get_origin(kind) is tuple:
        return f"a list of values, each {allowed(get_args(kind)[0])}"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        NoneType: "null",
        dict: "a mapping",
    }
    name = names.get(get_origin(kind) or kind, f"a {getattr(kind, '__name__', kind)}")
    limits = {
        key: getattr(m, key) for m in metadata for key in ("gt", "ge", "lt", "le") if getattr(m, key, None) is not None
    }
    if "ge" in limits and "le" in limits:
        return f"{name} from {limits['ge']} to {limits['le']}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}
    bounds = [f"{words[key]} {limit}" for key, limit in limits.items()]
    bounds += [f"of at most {m.max_length} characters" for m in metadata if isinstance(m, at.MaxLen)]
    return f"{name} {' and '.join(bounds)}" if bounds else name


def scalar(kind: Any, metadata: tuple[Any, ...] = (), *, wanted: str = "", read: Callable[[Any], Any] = number) -> Any:
    """The type that reads a `kind` from a file. Numbers may be written as `8/255`; true and false are no numbers. The
    error says what is allowed.

    read: turns text into a number, where a number is expected.
    """
    members = [member for member, _ in parts(kind)]
    wanted = wanted or allowed(kind, metadata)
    choices = [str(choice) for member in members for choice in get_args(member)]

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        given = read(value) if float in members else value
        coerced = isinstance(given, bool) != (bool in members) or (
            isinstance(given, str) and int in members
        )  # pydantic would take true for 1 and "3" for 3
        try:
            if not coerced or given is None:
                return handler(given)
        except ValidationError:
            pass
        raise refused(f"expected {wanted}, found {found(value)}{nearest(value, choices)}")

    base = Annotated[kind, *metadata] if metadata else kind
    if float in members and str not in members:
        text = str if read is not number else Annotated[str, Field(pattern=r"^[-+0-9.eE /]+$")]
        return Annotated[base, WrapValidator(check, json_schema_input_type=Union[base, text])]  # noqa: UP007
    return Annotated[base, WrapValidator(check)]


@dataclass(frozen=True)
class OneOrMore:
    """Reads a single value as a list of one; `Annotated[tuple[X, ...], OneOrMore()]`."""

    at_most: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.values, handler(source))

    def values(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return [value]
        if self.at_most is not None and len(value) > self.at_most:
            raise refused(f"expected at most {self.at_most} values, found {len(value):,}")
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


@dataclass(frozen=True, eq=False)
class ReadAs:
    """Reads a value by a type that is made at run time: `Annotated[what type checkers see, ReadAs(kind)]`."""

    kind: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.kind)


def one_or_more(item: Any, *, at_least: int = 1, at_most: int | None = None) -> Any:
    return Annotated[tuple[item, ...], Field(min_length=at_least), OneOrMore(at_most)]


def _kind(field: FieldInfo) -> tuple[Any, tuple[Any, ...]]:
    return field.annotation, tuple(field.metadata)


def axis(field: FieldInfo) -> Any:
    """The type of a field's axis: one value, or a list of them."""
    return one_or_more(scalar(*_kind(field)))


def single(field: FieldInfo) -> Any:
    """The type of a field as a file writes it, no axis: a scalar, or a list where the field itself is one."""
    kind, metadata = _kind(field)
    if is_scalar(kind):
        return scalar(kind, metadata)
    lists = [member for member, _ in parts(kind) if get_origin(member) is tuple]
    if not lists:
        return Annotated[kind, *metadata] if metadata else kind
    item = scalar(get_args(lists[0])[0])
    optional = NoneType in [member for member, _ in parts(kind)]
    return one_or_more(item) | None if optional else one_or_more(item, at_least=0)


def scalars(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that become axes."""
    return {name: f for name, f in model.model_fields.items() if is_scalar(f.annotation)}


def axes(model: type[BaseModel]) -> list[str]:
    """The fields that are axes of the grid: scalars, and `adversarial`, an attack."""
    return [name for name in model.model_fields if name in scalars(model) or name == "adversarial"]


def made(name: str, base: type[M] | tuple[type[M], ...], /, **fields: Any) -> type[M]:
    """A class of pydantic's with these fields, each a type and a default (`...`: none), besides those of its base."""
    return create_model(name, __base__=base, **fields)


def axes_of(model: type[BaseModel], name: str) -> type[Value]:
    """The class of a section of a suite file: the fields of `model`, its scalars as axes."""
    fields: dict[str, Any] = {}
    for key, f in model.model_fields.items():
        kind = axis(f) if key in scalars(model) else single(f)
        fields[key] = (
            kind,
            ... if f.is_required() else Field(default=f.get_default(call_default_factory=True), validate_default=True),
        )
    return made(name, Value, **fields)
