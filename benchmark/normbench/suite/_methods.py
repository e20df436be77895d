"""Norms, attacks and measures as a suite file names them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BeforeValidator, ValidationError, WithJsonSchema

import normbench.attacks as attacks
import normbench.measures as measures
import normbench.norms as norms
import normbench.statistics as statistics
from normbench.attacks._gradient import GradientAttack
from normbench.spec.plugins import TOO_LARGE, Plugin, PluginError, Registry
from normbench.spec.trial import Component, Value
from normbench.suite._problems import Location, found, nearest
from normbench.suite._types import allowed, parts, refused, refused_within, short_text

#: A JSON schema with this key is replaced by a reference to what the registry of that family holds.
FAMILY = "x-family"

P = TypeVar("P", bound=Plugin)


class NormChoice(Value):
    """A norm as a trial has it: the canonical label, and the methods that it stands for."""

    label: str
    components: tuple[Component, ...]


class NormPattern(Value):
    """A norm in a rule. Written without brackets, it fits these methods with any parameters: `gn` fits `gn[groups=8]`,
    but not `ws+gn`. Written with brackets, it fits these parameters alone.
    """

    text: str
    components: tuple[Component, ...]

    def fits(self, norm: tuple[Component, ...]) -> bool:
        if "[" in self.text:
            return norm == self.components
        return [c.name for c in norm] == [c.name for c in self.components]


def _resolve(value: Any) -> tuple[str, tuple[Component, ...]]:
    try:
        return norms.resolve(short_text(value, "a norm such as bn, gn[groups=8] or ws+gn"))
    except PluginError as error:
        raise refused(str(error)) from None


def _norm(value: Any) -> NormChoice:
    label, components = _resolve(value)
    return NormChoice(label=label, components=components)


def _pattern(value: Any) -> NormPattern:
    _, components = _resolve(value)
    return NormPattern(text=value, components=components)


def _component(registry: Registry[P], value: Any) -> Component:
    """Read `bim` or `bim: {steps: 20}`: a plug-in with all its parameters."""
    kind = registry.kind
    if isinstance(value, dict) and len(value) == 1:
        name, params = next(iter(value.items()))
    else:
        name, params = value, {}
    if not isinstance(name, str) or len(name) > 1000:
        raise refused(
            f"expected the name of one {kind}, or one name with its parameters (`name: {{parameter: value}}`), "
            f"found {found(value)}"
        )
    try:
        cls = registry.get(name)
    except PluginError as error:
        raise refused(str(error)) from None
    if params is not None and not isinstance(params, dict):
        raise refused_within(
            [((name,), f"expected parameters in braces or none ({', '.join(cls.model_fields)}), found {found(params)}")]
        )
    problems = _parameter_problems(cls, kind, params or {})
    if problems:
        raise refused_within([((name, *where), message) for where, message in problems])
    return cls.model_validate(params or {}).component()


def _parameter_problems(cls: type[Plugin], kind: str, params: dict[str, Any]) -> list[tuple[Location, str]]:
    fields = cls.model_fields
    problems: dict[str, str] = {}
    try:
        cls.model_validate(params)
    except ValidationError as error:
        for e in error.errors():
            key, *within = (*e["loc"], "")
            if key in fields:
                value = None if e["type"] == "missing" else e["input"]
                told = f"{e['msg']}, found {found(value)}" if e["type"] == TOO_LARGE else ""
                problems.setdefault(str(key), told or _misfit(cls, str(key), value, item=len(within) > 1))
            elif key:
                keys = list(fields)
                problems[str(key)] = (
                    f"{kind} {cls.name!r} has no parameter {found(key)}; it has "
                    f"{', '.join(keys) or 'none'}{nearest(key, keys)}"
                )
            else:
                problems[""] = e["msg"].removeprefix("Value error, ")
    for key, value in params.items():  # pydantic reads true as 1
        if (
            isinstance(value, bool)
            and key in fields
            and bool not in [member for member, _ in parts(fields[key].annotation)]
        ):
            problems[key] = _misfit(cls, key, value, item=False)
    return [((key,) if key else (), message) for key, message in problems.items()]


def _misfit(cls: type[Plugin], key: str, value: Any, *, item: bool) -> str:
    """`item`: the value is one of a list."""
    field = cls.model_fields[key]
    single_list = item and get_origin(field.annotation) is tuple
    wanted = allowed(get_args(field.annotation)[0]) if single_list else allowed(field.annotation, tuple(field.metadata))
    unit = (
        " (in pixel space [0, 1]: write 8/255 for eight grey levels)" if key == getattr(cls, "size_field", None) else ""
    )
    return f"expected {wanted}{unit}, found {found(value)}"


def _adversary(value: Any) -> Component | None:
    """Read the attack of adversarial training: null, or a gradient attack at one size."""
    if value is None:
        return None
    component = _component(attacks.registry, value)
    attack = attacks.registry.from_component(component)
    if not isinstance(attack, GradientAttack):
        usable = "fgsm, bim, mim or pgd, or one of them in another ball such as pgd-l2"
        raise refused_within(
            [
                (
                    (component.name,),
                    f"adversarial training needs an attack that follows gradients: {usable}; found {component.name!r}",
                )
            ]
        )
    if len(attack.sizes) != 1:
        shown = f"expected one size such as {attack.size_field}: 8/255, found {len(attack.sizes)}"
        raise refused_within([((component.name, attack.size_field), shown)])
    return component


NormItem = Annotated[NormChoice, BeforeValidator(_norm), WithJsonSchema({FAMILY: "norm"})]
NormRule = Annotated[NormPattern, BeforeValidator(_pattern), WithJsonSchema({FAMILY: "norm"})]
AttackItem = Annotated[
    Component, BeforeValidator(lambda v: _component(attacks.registry, v)), WithJsonSchema({FAMILY: "attack"})
]
MeasureItem = Annotated[
    Component, BeforeValidator(lambda v: _component(measures.registry, v)), WithJsonSchema({FAMILY: "measure"})
]
StatisticsItem = Annotated[
    Component, BeforeValidator(lambda v: _component(statistics.registry, v)), WithJsonSchema({FAMILY: "statistics"})
]
Adversary = Annotated[
    Component | None, BeforeValidator(_adversary), WithJsonSchema({"anyOf": [{FAMILY: "attack"}, {"type": "null"}]})
]
