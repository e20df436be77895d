"""A suite file as one pydantic model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from normbench.spec.about import Role
from normbench.spec.trial import Limits, Value
from normbench.suite._changes import Changes
from normbench.suite._methods import AttackItem, MeasureItem, NormItem, StatisticsItem
from normbench.suite._problems import found
from normbench.suite._sections import (
    About,
    BatchSizes,
    Change,
    Data,
    Include,
    Keeps,
    Loggers,
    ModelChoice,
    Seeds,
    SuiteHeadline,
    SuiteLimits,
    SuiteRole,
    Train,
    TuneChoice,
    When,
    Widths,
    train_defaults,
)
from normbench.suite._types import OneOrMore, made, refused

NAME = re.compile(r"[a-z0-9_-]{1,64}")

#: Models, norms, attacks, measures and rules are written one by one; more than this many are a mistake.
Several = OneOrMore(at_most=200)


def _name(value: Any) -> Any:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise refused(f"expected a name of 1 to 64 lower-case letters, digits, '-' and '_' (no path), found {found(value)}")


class Override(Value):
    """Other settings for some of the trials."""

    when: When
    """Which trials: the value of each key is the trial's, or a list that holds it."""
    set: Change
    """What they get instead: train settings and batch_size."""


class Suite(Value):
    """A grid of trials. Every list is an axis; the trials are the product of the axes, changed by exclude, include and
    overrides.
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
    """Architectures: a name, of timm or our own, or `{name: resnet18, stem: native, kwargs: {...}}`."""
    norms: Annotated[tuple[NormItem, ...], Field(min_length=1), Several]
    """Normalization methods: `bn`, `gn[groups=8]`, `ws+gn`."""
    batch_sizes: BatchSizes = (128,)
    """Images a training step."""
    widths: Widths = (1.0,)
    """Multipliers of the numbers of channels."""
    seeds: Seeds = Field(default=3, validate_default=True)
    """A number of seeds (3 means 0, 1, 2), or a list of them."""
    train: Train = Field(default_factory=train_defaults)
    """How networks are trained. Lists are axes."""
    attacks: Annotated[tuple[AttackItem, ...], Several] = ()
    """Attacks and noises on every trained network; sizes in pixel space [0, 1]."""
    measures: Annotated[tuple[MeasureItem, ...], Several] = ()
    """What is measured during training."""
    statistics: Annotated[tuple[StatisticsItem, ...], Several] = ()
    """By which statistics of batches trained networks are evaluated on clean, noisy and corrupted images: `running`, as
    trained, always; `precise`, `batch`, `adapted`, `{batch: {size: 32}}`.
    """
    exclude: Annotated[tuple[When, ...], Several] = ()
    """Trials of the product that are left out."""
    include: Annotated[tuple[Include, ...], Several] = ()
    """Further products: the suite's axes with those named here in their place."""
    overrides: Annotated[tuple[Override, ...], Several] = ()
    """Other settings for some trials, applied in order."""
    tune: TuneChoice = None
    """Settings that are chosen for each method on held-out training images, and how. Without this section every trial
    is trained as `train` says.
    """
    limits: SuiteLimits = Limits()
    """What a trial may use and how long it may take."""
    keep: Keeps = ()
    """What is kept beside the results: `weights`, those of each trained network. No result depends on it."""
    log: Loggers = ()
    """Where trials go besides the results: `tensorboard`, `wandb`, `mlflow`. No result depends on it."""

    _source: Path = PrivateAttr(default=Path("suite"))
    _changes: Changes = PrivateAttr(default_factory=Changes)

    @property
    def keeps_weights(self) -> bool:
        """Whether the weights of its trained networks are kept."""
        return "weights" in self.keep

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
    return made("Draft", Suite, **fields)


#: A suite with stand-ins for what must be given, so that the sound parts of a broken file can be checked together.
Draft = _draft()
