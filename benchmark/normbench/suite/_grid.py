"""From a suite to its trials: the product of the axes, less `exclude`, plus `include`, changed by `overrides`."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import normbench.attacks as attacks
import normbench.norms as norms
import normbench.statistics as statistics
from normbench.spec import architectures
from normbench.spec.plugins import Registry
from normbench.spec.trial import Component, DataSpec, ModelSpec, TrainSpec, Trial
from normbench.suite import _recipe
from normbench.suite._methods import NormChoice, NormPattern
from normbench.suite._models import Suite
from normbench.suite._problems import Finding, Location, found
from normbench.suite._types import axes as axes_in
from normbench.suite._types import scalars

#: Most trials that a suite may have. The largest suite of this project has thousands; more is a mistake in an axis.
MAX_TRIALS = 100_000

#: The singular keys of a rule, and the suite's key that lists them.
AXES = {"model": "models", "width": "widths", "batch_size": "batch_sizes", "norm": "norms", "seed": "seeds"}

#: What the message about a rule without effect begins with.
FITS_NONE = "fits no trial"

#: Images in the (training, test) split of datasets that are the same everywhere.
SIZES = {"digits": (1437, 360), "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "svhn": (73_257, 26_032)}


class GridError(ValueError):
    """The grid of a suite cannot be built."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f.message for f in findings))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class _Block:
    """A product of axes. Keys are those of rules. Trials follow the order of `axes`; the last axis changes fastest."""

    axes: dict[str, Sequence[Any]]
    location: Location

    @property
    def size(self) -> int:
        return math.prod(map(len, self.axes.values()))


def _distinct(values: Sequence[Any]) -> Sequence[Any]:
    """The values without repetitions, in order. Models and norms count as equal where they resolve to the same."""
    if isinstance(values, range):
        return values
    return list({_key(v): v for v in reversed(values)}.values())[::-1]


def _key(value: Any) -> Any:
    if isinstance(value, NormChoice):
        return json.dumps([c.model_dump() for c in value.components], sort_keys=True)
    return json.dumps(value.model_dump(), sort_keys=True) if hasattr(value, "model_dump") else value


def blocks(suite: Suite) -> list[_Block]:
    """The suite's own product, then one for each `include`. Trials of one seed stand together, then those that share a
    compiled network.
    """
    axes: dict[str, Sequence[Any]] = {"seed": suite.seeds}
    axes |= {key: getattr(suite.data, key) for key in scalars(DataSpec)}
    axes |= {key: getattr(suite, AXES[key]) for key in ("model", "width", "batch_size", "norm")}
    axes |= {key: getattr(suite.train, key) for key in axes_in(TrainSpec)}
    axes = {key: _distinct(values) for key, values in axes.items()}
    included = [
        _Block(axes | {k: _distinct(v) for k, v in rule.named().items()}, ("include", i))
        for i, rule in enumerate(suite.include)
    ]
    return [_Block(axes, ()), *included]


def axis_location(key: str) -> Location:
    """Where a suite states the axis that rules call `key`."""
    if key in AXES:
        return (AXES[key],)
    return ("data" if key in DataSpec.model_fields else "train", key)


def too_large(parts: list[_Block]) -> list[Finding]:
    total = sum(block.size for block in parts)
    if total <= MAX_TRIALS:
        return []
    largest = max(parts, key=lambda block: block.size)
    axes = sorted(((len(v), k) for k, v in largest.axes.items() if len(v) > 1), key=lambda item: -item[0])
    named = " x ".join(f"{'.'.join(map(str, axis_location(k)))} {n:,}" for n, k in axes)
    return [
        Finding(
            largest.location or axis_location(axes[0][1]),
            f"the grid has {total:,} trials ({named}), more than the {MAX_TRIALS:,} that a suite may have",
        )
    ]


def value_of(trial: Trial, key: str) -> Any:
    """What a rule's key is compared with."""
    if key in AXES:
        return {
            "model": trial.model.name,
            "width": trial.model.width,
            "batch_size": trial.batch_size,
            "norm": trial.norm,
            "seed": trial.seed,
        }[key]
    return getattr(trial.data if key in DataSpec.model_fields else trial.train, key)


def matches(rule: dict[str, tuple[Any, ...]], trial: Trial) -> bool:
    """Whether every key of a rule fits the trial."""
    return all(_fits(values, value_of(trial, key)) for key, values in rule.items())


def _fits(values: tuple[Any, ...], value: Any) -> bool:
    return any(v.fits(value) if isinstance(v, NormPattern) else v == value for v in values)


def trials_of(block: _Block, suite: Suite) -> Iterator[Trial]:
    """The trials of a product, in order. Trials share one object where their specifications are equal."""
    # Running statistics are those of a trial's own numbers, whether they are asked for or not.
    others = tuple(c for c in suite.statistics if c.name != "running")

    def specs(model: Any, section: Any) -> list[Any]:
        keys = axes_in(model)
        fixed = {k: getattr(section, k) for k in model.model_fields if k not in keys}
        return [
            model(**fixed, **dict(zip(keys, values, strict=True)))
            for values in itertools.product(*(block.axes[k] for k in keys))
        ]

    models = [
        ModelSpec(**dict(m) | {"width": w}) for m, w in itertools.product(block.axes["model"], block.axes["width"])
    ]
    rest = (
        specs(DataSpec, suite.data),
        models,
        block.axes["batch_size"],
        block.axes["norm"],
        specs(TrainSpec, suite.train),
    )
    for seed, data, model, batch_size, norm, train in itertools.product(block.axes["seed"], *rest):
        yield Trial(
            data=data,
            model=model,
            norm=norm.components,
            norm_label=norm.label,
            batch_size=batch_size,
            seed=seed,
            train=train,
            attacks=suite.attacks,
            measures=suite.measures,
            statistics=others,
        )


class _Texts:
    """Parts of trials as JSON, each object written once; equal parts have equal texts."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, str]] = {}

    def __call__(self, part: Any) -> str:
        if id(part) not in self.known:
            self.known[id(part)] = (part, json.dumps(part.model_dump(mode="json"), sort_keys=True))
        return self.known[id(part)][1]

    def shape(self, trial: Trial) -> tuple[Any, ...]:
        """What trials that can share a compiled training step have in common."""
        return (self(trial.data), self(trial.model), trial.batch_size, *map(self, trial.norm))


def build(suite: Suite) -> tuple[list[Trial], list[Finding]]:
    """The trials, and the rules that fit none. Raises `GridError` where there are too many."""
    products = blocks(suite)
    if findings := too_large(products):
        raise GridError(findings)
    used: set[Location] = set()
    trials = []
    exclude = [rule.named() for rule in suite.exclude]
    for trial in trials_of(products[0], suite):
        out = [i for i, rule in enumerate(exclude) if matches(rule, trial)]
        used.update(("exclude", i) for i in out)
        if not out:
            trials.append(trial)
    for block in products[1:]:
        trials += trials_of(block, suite)
    for i, override in enumerate(suite.overrides):
        rule, changes = override.when.named(), override.set.model_dump(include=override.set.model_fields_set)
        changed: dict[int, TrainSpec] = {}
        for position, trial in enumerate(trials):
            if matches(rule, trial):
                used.add(("overrides", i))
                trials[position] = _changed(trial, changes, changed)
    unused = [
        (name, i, rule)
        for name, rules in (("exclude", suite.exclude), ("overrides", suite.overrides))
        for i, rule in enumerate(rules)
    ]
    findings = [_without_effect((name, i), rule, products) for name, i, rule in unused if (name, i) not in used]
    return _ordered(trials), findings


def _changed(trial: Trial, changes: dict[str, Any], made: dict[int, TrainSpec]) -> Trial:
    if id(trial.train) not in made:
        made[id(trial.train)] = TrainSpec(
            **trial.train.model_dump() | {k: v for k, v in changes.items() if k in TrainSpec.model_fields}
        )
    parts = {k: getattr(trial, k) for k in Trial.model_fields}
    return Trial(**parts | {"train": made[id(trial.train)], "batch_size": changes.get("batch_size", trial.batch_size)})


def _without_effect(location: Location, rule: Any, products: list[_Block]) -> Finding:
    when = (rule.when if location[0] == "overrides" else rule).named()
    for key, values in when.items():
        present = _distinct([v for block in products for v in block.axes[key]])
        shown = [v.label if isinstance(v, NormChoice) else getattr(v, "name", v) for v in present]
        compared = [v.components if isinstance(v, NormChoice) else getattr(v, "name", v) for v in present]
        if not any(_fits(values, value) for value in compared):
            asked = ", ".join(v.text if isinstance(v, NormPattern) else found(v) for v in values)
            return Finding(
                location,
                f"{FITS_NONE}: no {key} is {asked}; there {'is' if len(shown) == 1 else 'are'} "
                f"{', '.join(map(str, shown[:20]))}",
            )
    return Finding(location, f"{FITS_NONE}: each of its values occurs, but not together")


def _ordered(trials: list[Trial]) -> list[Trial]:
    """The trials without duplicates, seed by seed, so that all methods progress together. Within a seed, trials of one
    shape stand together.
    """
    texts = _Texts()
    distinct = {(texts.shape(t), t.seed, texts(t.train)): t for t in reversed(trials)}
    kept = list(distinct.items())[::-1]
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(key[1] for key, _ in kept))}
    shapes = {shape: i for i, shape in enumerate(dict.fromkeys(key[0] for key, _ in kept))}
    return [trial for key, trial in sorted(kept, key=lambda item: (seeds[item[0][1]], shapes[item[0][0]]))]


def check(suite: Suite, sound: set[str]) -> list[Finding]:
    """The problems that only the trials show. `sound`: the suite's keys that hold what the file says and not a
    stand-in.
    """
    try:
        trials, unused = build(suite)
    except GridError as error:
        return [f for f in error.findings if f.location[0] in sound]
    findings = unused if sound >= set(type(suite).model_fields) else []
    if not trials:
        findings.append(Finding(("exclude",), "leaves no trial"))
    if {"models", "widths"} <= sound:
        for name, width in dict.fromkeys((t.model.name, t.model.width) for t in trials):
            if message := architectures.width_problem(name, width):
                findings.append(Finding(("widths",), message))
    if {"models", "norms"} <= sound:
        for name, method in dict.fromkeys((t.model.name, norms.activation_of(t.norm)) for t in trials):
            if message := architectures.norm_problem(name, method):
                findings.append(Finding(("norms",), message))
    if "data" in sound:
        findings += [f for data in dict.fromkeys(t.data for t in trials) for f in _data_problems(data)]
    if {"data", "batch_sizes"} <= sound:
        findings += [
            f
            for data, size in dict.fromkeys((t.data, t.batch_size) for t in trials)
            for f in batch_problems(data, size)
        ]
    if {"batch_sizes", "train", "tune"} <= sound:
        findings += _recipe.check(suite, trials)
    for key in ("attacks", "measures", "statistics"):
        components = getattr(suite, key)
        findings += _repeated(key, components)
    return findings


def _data_problems(data: DataSpec) -> Iterator[Finding]:
    if data.mean and data.std and len(data.mean) != len(data.std):
        yield Finding(
            ("data", "std"),
            f"{len(data.mean)} values for the mean but {len(data.std)} for the standard deviation; expected one a "
            "channel in both",
        )
    for key, size in zip(("train_examples", "test_examples"), SIZES.get(data.dataset, ()), strict=False):
        if (asked := getattr(data, key)) is not None and asked > size:
            yield Finding(("data", key), f"{asked:,} images asked for; {data.dataset} has {size:,}")


def batch_problems(data: DataSpec, batch_size: int) -> Iterator[Finding]:
    sizes = [n for n in (data.train_examples, *SIZES.get(data.dataset, ())[:1]) if n is not None]
    if not sizes:
        return
    held_out = max(1, round(min(sizes) * data.validation)) if data.validation else 0
    if batch_size > (left := min(sizes) - held_out):
        beside = f" beside the {held_out:,} held out" if held_out else ""
        yield Finding(
            ("batch_sizes",),
            f"a batch of {batch_size:,} is larger than the {left:,} training images of {data.dataset}{beside}",
        )


def _repeated(key: str, components: tuple[Component, ...]) -> Iterator[Finding]:
    """Two entries that would write the same rows: equal but for the sizes of an attack, one measure or statistics
    twice.
    """
    seen: dict[str, int] = {}
    settings: dict[str, Registry[Any]] = {"attacks": attacks.registry, "statistics": statistics.registry}
    for i, component in enumerate(components):
        setting = settings[key].from_component(component).setting if key in settings else component.name
        if setting in seen:
            advice = "list all its sizes in one entry" if key == "attacks" else "write it once"
            yield Finding((key, i), f"{setting} stands here twice (also {key}[{seen[setting]}]); {advice}")
        seen.setdefault(setting, i)
