"""A suite file as pydantic models; fields and constraints of trials come from `normbench.spec.trial`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, get_args, get_origin

from annotated_types import MaxLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
    create_model,
    model_validator,
)

from normbench import attacks, measures, norms
from normbench.attacks._gradient import GradientAttack
from normbench.spec import architectures
from normbench.spec.about import Headline, Role
from normbench.spec.plugins import Plugin, PluginError, Registry
from normbench.spec.trial import Component, DataSpec, Limits, ModelSpec, TrainSpec, Trial, Value
from normbench.suite._problems import found, nearest
from normbench.suite._types import (
    OneOrMore,
    allowed,
    axes,
    axes_of,
    axis,
    one_or_more,
    parts,
    refused,
    refused_within,
    scalar,
    scalars,
    single,
)

NAME = re.compile(r"[a-z0-9_-]{1,64}")
#: A JSON schema with this key is replaced by a reference to what the registry of that family holds.
FAMILY = "x-family"

#: What `timm.create_model` is given by the benchmark itself, or what would load weights from elsewhere.
RESERVED_KWARGS = (
    *("model_name", "num_classes", "in_chans", "scriptable", "exportable", "no_jit"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)


#: Keys of `train` that tuning may choose. What makes the task or the budget (epochs, precision, drop_last, adversarial)
#: is not among them.
TUNABLE = ("lr", "weight_decay", "momentum", "warmup", "label_smoothing", "clip_grad", "optimizer", "schedule", "decay")
#: What settings may be chosen apart for: axes of which a candidate sees something, but for the seed, over which a
#: choice must hold.
CELLS = (
    "norm",
    "model",
    "width",
    "batch_size",
    "dataset",
    "train_split",
    "train_examples",
    "image_size",
    *axes(TrainSpec),
)

#: Models, norms, attacks, measures and rules: written one by one, so more are a mistake.
Several = OneOrMore(at_most=200)


def _name(value: Any) -> Any:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise refused(f"expected a name of 1 to 64 lower-case letters, digits, '-' and '_' (no path), found {found(value)}")


def _text(value: Any, example: str) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise refused(f"expected {example}, found {found(value)}")
    return value


class NormChoice(Value):
    """A norm as a trial has it: canonical label, and the methods behind it."""

    label: str
    components: tuple[Component, ...]


class NormPattern(Value):
    """A norm in a rule. Without brackets it fits the methods with any parameters (`gn`: `gn[groups=8]` too, but not
    `ws+gn`); with brackets, those alone.
    """

    text: str
    components: tuple[Component, ...]

    def fits(self, norm: tuple[Component, ...]) -> bool:
        if "[" in self.text:
            return norm == self.components
        return [c.name for c in norm] == [c.name for c in self.components]


def _resolve(value: Any) -> tuple[str, tuple[Component, ...]]:
    try:
        return norms.resolve(_text(value, "a norm such as bn, gn[groups=8] or ws+gn"))
    except PluginError as error:
        raise refused(str(error)) from None


def _norm(value: Any) -> NormChoice:
    label, components = _resolve(value)
    return NormChoice(label=label, components=components)


def _pattern(value: Any) -> NormPattern:
    _, components = _resolve(value)
    return NormPattern(text=value, components=components)


def _component(registry: Registry[Any], value: Any) -> Component:
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
    return cls.model_validate(params or {}).component()  # type: ignore[no-any-return]


def _parameter_problems(
    cls: type[Plugin], kind: str, params: dict[str, Any]
) -> list[tuple[tuple[str | int, ...], str]]:
    fields = cls.model_fields
    problems: dict[str, str] = {}
    try:
        cls.model_validate(params)
    except ValidationError as error:
        for e in error.errors():
            key, *within = (*e["loc"], "")
            if key in fields:
                value = None if e["type"] == "missing" else e["input"]
                problems.setdefault(str(key), _misfit(cls, str(key), value, item=len(within) > 1))
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


def _architecture(value: Any) -> Any:
    name = _text(value, "the name of a timm architecture such as resnet18")
    if message := architectures.unknown(name):
        raise refused(message)
    return name


def _model_choice(value: Any) -> Any:
    if isinstance(value, dict | _ModelBase):
        return value
    return {"name": _text(value, "the name of a timm architecture, or a mapping of name, stem and kwargs")}


def _kwargs(value: Any) -> Any:
    if not isinstance(value, dict):
        raise refused(f"expected a mapping of arguments for timm.create_model, found {found(value)}")
    taken = [key for key in value if key in RESERVED_KWARGS]
    if taken:
        raise refused_within([((key,), f"the benchmark sets {key!r} itself") for key in taken])
    return value


class _ModelBase(Value):
    @model_validator(mode="after")
    def _usable(self) -> Self:
        name, stem = self.name, self.stem  # type: ignore[attr-defined]
        if message := architectures.norm_problem(name) or architectures.stem_problem(name, stem):
            raise refused(message)
        return self


class _RuleBase(Value):
    """Each key that is given must fit: the trial's value is the one written, or one of those listed."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.model_fields_set:
            raise refused(f"expected at least one key of {', '.join(type(self).model_fields)}, found none")
        return self

    def named(self) -> dict[str, tuple[Any, ...]]:
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}


def _seconds(value: Any) -> Any:
    """`90s`, `30m`, `2h` or a number of seconds."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)\s*", value) if isinstance(value, str) else None
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else value


def _seeds(value: Any, handler: Any) -> Sequence[int]:
    if isinstance(value, list | tuple):
        return handler(value)  # type: ignore[no-any-return]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**31:
        return range(value)
    raise refused(f"expected a number of seeds (3 means 0, 1, 2) or a list of them, found {found(value)}")


def _dataset(value: Any) -> Any:
    text = _text(value, "a dataset such as digits, cifar10, hub:owner/name or a path")
    hub = re.fullmatch(r"hub:[\w.-]+/[\w.-]+(:[\w.-]+)?", text)
    plain = re.fullmatch(r"[\w.-]+", text) and text not in {".", ".."}
    if not (hub or plain or (not text.startswith("hub:") and "://" not in text and ("/" in text or "\\" in text))):
        raise refused(
            f"expected a name such as digits or cifar10, hub:owner/name, or the path of a folder, found {found(value)}"
        )
    return text


class TuneOptions(Value):
    """How settings of `train` are chosen for each method, besides the settings themselves and their values."""

    on: Literal["validation"] = "validation"
    """What a candidate is judged by: `validation`, its accuracy on held-out training images after the last epoch."""
    validation: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that candidates hold out; `null`: that of `data`, or 0.1 where `data` holds out
    none.
    """
    seeds: Sequence[int] = (0,)
    """Seeds of the candidates, a number or a list; a setting is judged by the mean over them."""
    per: tuple[str, ...] = ("norm",)
    """What settings are chosen apart for: `norm`, which is always among them, and other axes."""
    scheduler: Literal["asha", "none"] = "none"
    """`asha`: Ray Tune's ASHA stops weak candidates early; `none`: all of them run to their end."""


class _TuneBase(Value):
    @model_validator(mode="after")
    def _consistent(self) -> Self:
        settings = self.settings()
        if not settings:
            raise refused(
                "expected at least one setting with the values to choose from, such as lr: [0.01, 0.1]; settings "
                f"are {', '.join(TUNABLE)}"
            )
        per, seeds = self.per, self.seeds  # type: ignore[attr-defined]
        problems: list[tuple[tuple[str | int, ...], str]] = [
            ((key,), f"expected two values or more to choose from, found one; a fixed value is written train.{key}")
            for key, values in settings.items()
            if len(values) < 2
        ]
        problems += [
            (("per", i), f"{key} is chosen by this very search") for i, key in enumerate(per) if key in settings
        ]
        if self.scheduler == "asha" and len(dict.fromkeys(seeds)) > 1:  # type: ignore[attr-defined]
            problems.append(
                (
                    ("seeds",),
                    f"asha takes one seed, found {len(seeds)}: it would stop some seeds of a setting and not others",
                )
            )
        if problems:
            raise refused_within(problems)
        return self

    def settings(self) -> dict[str, tuple[Any, ...]]:
        """The tuned settings and their values, without repetitions."""
        return {key: tuple(dict.fromkeys(getattr(self, key))) for key in TUNABLE if key in self.model_fields_set}


_NormItem = Annotated[NormChoice, BeforeValidator(_norm), WithJsonSchema({FAMILY: "norm"})]
_NormRule = Annotated[NormPattern, BeforeValidator(_pattern), WithJsonSchema({FAMILY: "norm"})]
_AttackItem = Annotated[
    Component, BeforeValidator(lambda v: _component(attacks.registry, v)), WithJsonSchema({FAMILY: "attack"})
]
_MeasureItem = Annotated[
    Component, BeforeValidator(lambda v: _component(measures.registry, v)), WithJsonSchema({FAMILY: "measure"})
]


def _adversary(value: Any) -> Component | None:
    """Null, or a gradient attack at one size."""
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


_Adversary = Annotated[
    Component | None, BeforeValidator(_adversary), WithJsonSchema({"anyOf": [{FAMILY: "attack"}, {"type": "null"}]})
]


def _rule(name: str, model: Any, norm: Any) -> type[_RuleBase]:
    """Data and train scalars by their own names, and the other axes in the singular."""
    trial = Trial.model_fields
    fields = {key: axis(f) for key, f in (scalars(DataSpec) | scalars(TrainSpec)).items()}
    fields |= {"model": one_or_more(model), "norm": one_or_more(norm), "width": axis(ModelSpec.model_fields["width"])}
    fields |= {"batch_size": axis(trial["batch_size"]), "seed": axis(trial["seed"])}
    return create_model(name, __base__=_RuleBase, **{key: (kind, None) for key, kind in fields.items()})  # type: ignore[call-overload, no-any-return]


if TYPE_CHECKING:
    Data: TypeAlias = Any
    Train: TypeAlias = Any
    ModelChoice: TypeAlias = Any
    When: TypeAlias = Any
    Include: TypeAlias = Any
    Change: TypeAlias = Any
    Tune: TypeAlias = Any
    SuiteLimits: TypeAlias = Limits
    SuiteHeadline: TypeAlias = Any
    SuiteRole: TypeAlias = Role
    About: TypeAlias = str
    BatchSizes: TypeAlias = tuple[int, ...]
    Widths: TypeAlias = tuple[float, ...]
    Seeds: TypeAlias = Sequence[int]
else:
    _model, _trial, _time = ModelSpec.model_fields, Trial.model_fields, Limits.model_fields["time"]

    _augment = Annotated[
        single(DataSpec.model_fields["augment"]), AfterValidator(lambda v: tuple(sorted(set(v))))
    ]  # applied in one order, however written
    _dataset_axis = one_or_more(Annotated[str, BeforeValidator(_dataset)])
    Data = create_model(
        "Data", __base__=axes_of(DataSpec, "Data"), dataset=(_dataset_axis, ...), augment=(_augment, ())
    )
    Train = create_model("Train", __base__=axes_of(TrainSpec, "Train"), adversarial=(one_or_more(_Adversary), (None,)))
    Model = create_model(
        "Model",
        __base__=_ModelBase,
        name=(Annotated[str, BeforeValidator(_architecture)], ...),
        stem=(single(_model["stem"]), _model["stem"].default),
        kwargs=(Annotated[dict[str, Any], BeforeValidator(_kwargs)], {}),
    )
    ModelChoice = Annotated[Model, BeforeValidator(_model_choice, json_schema_input_type=str | Model)]
    When = _rule("When", Annotated[str, BeforeValidator(_architecture)], _NormRule)
    Include = _rule("Include", ModelChoice, _NormItem)
    _changeable = {
        key: (single(f), None) for key, f in (TrainSpec.model_fields | {"batch_size": _trial["batch_size"]}).items()
    }
    Change = create_model("Change", __base__=_RuleBase, **_changeable | {"adversarial": (_Adversary, None)})
    _limits = {key: (single(f), f.default) for key, f in Limits.model_fields.items()}
    _wanted = "a time such as 90s, 30m, 2h or a number of seconds above 0"
    _limits["time"] = (scalar(_time.annotation, tuple(_time.metadata), wanted=_wanted, read=_seconds), _time.default)
    _written = create_model("Limits", __base__=Limits, **_limits)
    SuiteLimits = Annotated[_written, AfterValidator(lambda v: Limits(**v.model_dump()))]

    _headline = {key: (single(f), ...) for key, f in Headline.model_fields.items()}
    SuiteHeadline = create_model("Headline", __base__=Value, **_headline)
    SuiteRole = Annotated[scalar(Literal[tuple(map(str, Role))]), AfterValidator(Role)]
    About = scalar(str, (MaxLen(2000),))
    BatchSizes = axis(_trial["batch_size"])
    Widths = axis(_model["width"])
    _seed = single(_trial["seed"])
    Seeds = Annotated[
        tuple[_seed, ...],
        Field(min_length=1),
        WrapValidator(
            _seeds, json_schema_input_type=Annotated[int, Field(ge=1)] | Annotated[list[_seed], Field(min_length=1)]
        ),
    ]

    _options = {
        key: (single(f), Field(default=f.default, validate_default=True)) for key, f in TuneOptions.model_fields.items()
    }
    _options["seeds"] = (Seeds, (0,))
    _options["per"] = (one_or_more(scalar(Literal[CELLS])), ("norm",))
    Tune = create_model(
        "Tune", __base__=_TuneBase, **{key: (axis(TrainSpec.model_fields[key]), None) for key in TUNABLE} | _options
    )


class Override(Value):
    """Other settings for some of the trials."""

    when: When
    """Which trials: each key's value is the trial's, or lists it."""
    set: Change
    """What they get instead: train settings and batch_size."""


class Suite(Value):
    """A grid of trials: every list is an axis, and the trials are the product of the axes, shaped by exclude, include
    and overrides.
    """

    name: Annotated[
        str,
        BeforeValidator(_name),
        Field(alias="suite"),
        WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
    ]
    """Name of the suite, under which its boards stand: lower-case letters, digits, `-` and `_`."""
    about: About = ""
    """What the suite is for, in a sentence or two."""
    role: SuiteRole = Role.STUDY
    """`headline`: its boards stand in front; `study`: behind them; `example`: they never say who may be the best."""
    headline: SuiteHeadline = None
    """The attack and the size that its boards rank robustness by; without it a rule decides that looks at no result."""
    data: Data
    """Which images. Lists are axes."""
    models: Annotated[tuple[ModelChoice, ...], Field(min_length=1), Several]
    """timm architectures: a name, or `{name: resnet18, stem: native, kwargs: {...}}`."""
    norms: Annotated[tuple[_NormItem, ...], Field(min_length=1), Several]
    """Normalization methods: `bn`, `gn[groups=8]`, `ws+gn`."""
    batch_sizes: BatchSizes = (128,)
    """Images a training step."""
    widths: Widths = (1.0,)
    """Multipliers of the numbers of channels."""
    seeds: Seeds = Field(default=3, validate_default=True)
    """A number of seeds (3 means 0, 1, 2), or a list of them."""
    train: Train = Field(default_factory=lambda: Train())
    """How networks are trained. Lists are axes."""
    attacks: Annotated[tuple[_AttackItem, ...], Several] = ()
    """Attacks and noises on every trained network; sizes in pixel space [0, 1]."""
    measures: Annotated[tuple[_MeasureItem, ...], Several] = ()
    """What is measured during training."""
    exclude: Annotated[tuple[When, ...], Several] = ()
    """Trials of the product that are left out."""
    include: Annotated[tuple[Include, ...], Several] = ()
    """Further products: the suite's axes with those named here in their place."""
    overrides: Annotated[tuple[Override, ...], Several] = ()
    """Other settings for some trials, applied in order."""
    tune: Tune = None
    """Settings that are chosen for each method on held-out training images, and how; without it every trial is trained
    as `train` says.
    """
    limits: SuiteLimits = Limits()
    """What a trial may use and how long it may take."""

    _source: Path = PrivateAttr(default=Path("suite"))

    @property
    def source(self) -> Path:
        """The file that it was read from."""
        return self._source


def _draft() -> type[Suite]:
    stand_ins = {"name": "draft", "data": {"dataset": "unknown"}, "models": "resnet18", "norms": "none"}
    fields = {
        key: (Suite.model_fields[key].rebuild_annotation(), Field(default=value, validate_default=True))
        for key, value in stand_ins.items()
    }
    return create_model("Draft", __base__=Suite, **fields)  # type: ignore[call-overload, no-any-return]


#: A suite with stand-ins for what must be given, so that the sound parts of a broken file can be checked together.
Draft = _draft()
