"""The sections of a suite file. Type checkers see the classes and aliases here; what reads a file is made at run time
from the fields of `normbench.spec.trial`, so that each constraint is stated once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from annotated_types import MaxLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WrapValidator,
    model_validator,
)

from normbench.spec import architectures
from normbench.spec.about import Headline, Role
from normbench.spec.loggers import LOGGERS
from normbench.spec.plugins import MOST
from normbench.spec.trial import DataSpec, Limits, ModelSpec, TrainSpec, Trial, Value
from normbench.suite._methods import Adversary, NormItem, NormRule
from normbench.suite._problems import Location, found
from normbench.suite._types import (
    ReadAs,
    axes,
    axes_of,
    axis,
    made,
    one_or_more,
    refused,
    refused_within,
    scalar,
    scalars,
    short_text,
    single,
)

#: What `timm.create_model` is given by the benchmark itself, or what would load weights from elsewhere.
RESERVED_KWARGS = (
    *("model_name", "num_classes", "in_chans", "scriptable", "exportable", "no_jit"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)
#: Keys of `train` that tuning may choose. What makes the task or the budget (epochs, precision, drop_last, adversarial)
#: is not among them.
TUNABLE = (
    *("lr", "weight_decay", "momentum", "warmup", "label_smoothing", "clip_grad", "optimizer", "schedule", "decay"),
    *("nesterov", "factor", "agc", "mixup", "cutmix", "ema"),
)
#: Axes for each value of which settings may be chosen separately. A candidate must see something of the axis. The seed
#: is not among them, since a choice must hold over seeds.
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


_model, _trial, _time = ModelSpec.model_fields, Trial.model_fields, Limits.model_fields["time"]


def _architecture(value: Any) -> Any:
    name = short_text(value, "the name of an architecture such as resnet18")
    if message := architectures.unknown(name):
        raise refused(message)
    return name


def _kwargs(value: Any) -> Any:
    if not isinstance(value, dict):
        raise refused(f"expected a mapping of arguments for timm.create_model, found {found(value)}")
    taken = [key for key in value if key in RESERVED_KWARGS]
    if taken:
        raise refused_within([((key,), f"the benchmark sets {key!r} itself") for key in taken])
    for key, inner in value.items():
        if (largest := max(_numbers(inner), default=0)) > MOST:
            raise refused_within([((key,), f"expected no number above {MOST:,}, found {found(largest)}")])
    return value


def _numbers(value: Any) -> Iterator[float]:
    """The sizes of all numbers within a value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield abs(value)


class Model(Value):
    """A network as a suite names it, without its width, which is an axis of its own."""

    name: Annotated[str, BeforeValidator(_architecture)]
    stem: Annotated[str, ReadAs(single(_model["stem"]))] = _model["stem"].default
    kwargs: Annotated[dict[str, Any], BeforeValidator(_kwargs)] = Field(default={})

    @model_validator(mode="after")
    def _usable(self) -> Self:
        problem = architectures.norm_problem(self.name) or architectures.stem_problem(self.name, self.stem)
        if problem:
            raise refused(problem)
        return self


def _model_choice(value: Any) -> Any:
    if isinstance(value, dict | Model):
        return value
    return {"name": short_text(value, "the name of an architecture, or a mapping of name, stem and kwargs")}


ModelChoice = Annotated[Model, BeforeValidator(_model_choice, json_schema_input_type=str | Model)]


def _dataset(value: Any) -> Any:
    text = short_text(value, "a dataset such as digits, cifar10, hub:owner/name or a path")
    hub = re.fullmatch(r"hub:[\w.-]+/[\w.-]+(:[\w.-]+)?", text)
    plain = re.fullmatch(r"[\w.-]+", text) and text not in {".", ".."}
    if not (hub or plain or (not text.startswith("hub:") and "://" not in text and ("/" in text or "\\" in text))):
        raise refused(
            f"expected a name such as digits or cifar10, hub:owner/name, or the path of a folder, found {found(value)}"
        )
    return text


def _sorted(kind: Any) -> Any:
    """A list without repetitions, in one order however it is written."""
    return Annotated[kind, AfterValidator(lambda values: tuple(sorted(set(values))))]


_augment = _sorted(single(DataSpec.model_fields["augment"]))
_share = scalar(get_args(TrainSpec.model_fields["milestones"].annotation)[0])
_milestones = _sorted(one_or_more(_share, at_most=100))
_dataset_axis = one_or_more(Annotated[str, BeforeValidator(_dataset)])
_data = made("Data", axes_of(DataSpec, "Data"), dataset=(_dataset_axis, ...), augment=(_augment, ()))
_train = made(
    "Train",
    axes_of(TrainSpec, "Train"),
    adversarial=(one_or_more(Adversary), (None,)),
    milestones=(_milestones, TrainSpec.model_fields["milestones"].default),
)
Data = Annotated[Value, ReadAs(_data)]
Train = Annotated[Value, ReadAs(_train)]


def train_defaults() -> Value:
    """The section `train` of a suite that has none."""
    return _train()


class Rule(Value):
    """A rule fits a trial if each key does that it gives: the trial's value is the one written, or one of those
    listed.
    """

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.model_fields_set:
            raise refused(f"expected at least one key of {', '.join(type(self).model_fields)}, found none")
        return self

    def named(self) -> dict[str, Any]:
        """The keys that are given: the values that fit, or the one to set."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}


def _rule(name: str, model: Any, norm: Any) -> type[Rule]:
    """Data and train scalars by their own names, and the other axes in the singular."""
    trial = Trial.model_fields
    fields = {key: axis(f) for key, f in (scalars(DataSpec) | scalars(TrainSpec)).items()}
    fields |= {"model": one_or_more(model), "norm": one_or_more(norm), "width": axis(ModelSpec.model_fields["width"])}
    fields |= {"batch_size": axis(trial["batch_size"]), "seed": axis(trial["seed"])}
    return made(name, Rule, **{key: (kind, None) for key, kind in fields.items()})


_when = _rule("When", Annotated[str, BeforeValidator(_architecture)], NormRule)
_include = _rule("Include", ModelChoice, NormItem)
When = Annotated[Rule, ReadAs(_when)]
Include = Annotated[Rule, ReadAs(_include)]
_changeable = {
    key: (single(f), None) for key, f in (TrainSpec.model_fields | {"batch_size": _trial["batch_size"]}).items()
}
_change = made("Change", Rule, **_changeable | {"adversarial": (Adversary, None), "milestones": (_milestones, None)})
Change = Annotated[Rule, ReadAs(_change)]


def _seconds(value: Any) -> Any:
    """`90s`, `30m`, `2h` or a number of seconds."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)\s*", value) if isinstance(value, str) else None
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else value


_limits = {key: (single(f), f.default) for key, f in Limits.model_fields.items()}
_wanted = "a time such as 90s, 30m, 2h or a number of seconds above 0"
_limits["time"] = (scalar(_time.annotation, tuple(_time.metadata), wanted=_wanted, read=_seconds), _time.default)
_resolved = AfterValidator(lambda v: Limits(**v.model_dump()))
SuiteLimits = Annotated[Limits, ReadAs(made("Limits", Limits, **_limits)), _resolved]


def _seeds(value: Any, handler: Any) -> Sequence[int]:
    if isinstance(value, list | tuple):
        return handler(value)  # type: ignore[no-any-return]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**31:
        return range(value)
    raise refused(f"expected a number of seeds (3 means 0, 1, 2) or a list of them, found {found(value)}")


def _seeds_of(seed: Any) -> Any:
    written = Annotated[int, Field(ge=1)] | Annotated[list[seed], Field(min_length=1)]
    return Annotated[tuple[seed, ...], Field(min_length=1), WrapValidator(_seeds, json_schema_input_type=written)]


_headline = {key: (single(f), ...) for key, f in Headline.model_fields.items()}
SuiteHeadline = Annotated[Headline | None, ReadAs(made("Headline", Headline, **_headline))]
SuiteRole = Annotated[Role, ReadAs(Annotated[scalar(Literal[tuple(map(str, Role))]), AfterValidator(Role)])]
About = Annotated[str, ReadAs(scalar(str, (MaxLen(2000),)))]
BatchSizes = Annotated[tuple[int, ...], ReadAs(axis(_trial["batch_size"]))]
Keeps = Annotated[tuple[str, ...], ReadAs(_sorted(one_or_more(scalar(Literal["weights"]), at_least=0)))]
Loggers = Annotated[tuple[str, ...], ReadAs(_sorted(one_or_more(scalar(Literal[tuple(LOGGERS)]), at_least=0)))]
Widths = Annotated[tuple[float, ...], ReadAs(axis(_model["width"]))]
Seeds = Annotated[Sequence[int], ReadAs(_seeds_of(single(_trial["seed"])))]


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
    """The axes for each value of which settings are chosen separately: `norm`, which is always among them, and others.
    """
    scheduler: Literal["asha", "none"] = "none"
    """`asha`: Ray Tune's ASHA stops weak candidates early; `none`: all of them run to their end."""


class Tune(TuneOptions):
    """The section `tune`: the options, and beside them each setting with the values to choose from."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        settings = self.settings()
        if not settings:
            raise refused(
                "expected at least one setting with the values to choose from, such as lr: [0.01, 0.1]; settings "
                f"are {', '.join(TUNABLE)}"
            )
        per, seeds = self.per, len(self.distinct_seeds())
        problems: list[tuple[Location, str]] = [
            ((key,), f"expected two values or more to choose from, found one; a fixed value is written train.{key}")
            for key, values in settings.items()
            if len(values) < 2
        ]
        problems += [
            (("per", i), f"{key} is chosen by this very search") for i, key in enumerate(per) if key in settings
        ]
        if self.scheduler == "asha" and seeds > 1:
            problems.append(
                (
                    ("seeds",),
                    f"asha takes one seed, found {seeds:,}: it would stop some seeds of a setting and not others",
                )
            )
        if problems:
            raise refused_within(problems)
        return self

    def distinct_seeds(self) -> Sequence[int]:
        """The seeds without repetitions. A number of them is a range, however large: no list is made of it."""
        return self.seeds if isinstance(self.seeds, range) else tuple(dict.fromkeys(self.seeds))

    def settings(self) -> dict[str, tuple[Any, ...]]:
        """The tuned settings and their values, without repetitions."""
        return {key: tuple(dict.fromkeys(getattr(self, key))) for key in TUNABLE if key in self.model_fields_set}


_settings = {key: (axis(TrainSpec.model_fields[key]), None) for key in TUNABLE}
_options = {
    key: (single(f), Field(default=f.default, validate_default=True)) for key, f in TuneOptions.model_fields.items()
}
_options["seeds"] = (Seeds, (0,))
_options["per"] = (one_or_more(scalar(Literal[CELLS])), ("norm",))
_tune = made("Tune", (Tune, made("Settings", Value, **_settings)), **_options)
TuneChoice = Annotated[Tune | None, ReadAs(_tune)]
