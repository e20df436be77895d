"""From a suite with `tune` to its searches: for each cell the candidates, and the final trials that wait for the
choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from normbench.spec.trial import DataSpec, Trial
from normbench.spec.tuning import TuningSearch, with_settings
from normbench.suite import _grid, _recipe
from normbench.suite._models import Suite
from normbench.suite._problems import Finding
from normbench.suite._sections import Tune

#: Share of the training images that candidates hold out where neither `tune` nor `data` says.
VALIDATION = 0.1


def searches(tune: Tune, trials: list[Trial]) -> list[TuningSearch]:
    """The searches that `tune` asks for. `trials`: those of the suite's grid, in order, with the tuned settings at any
    value.
    """
    per, cells = _per(tune), _cells(tune, trials)
    telling = [i for i, _ in enumerate(per) if i and len({cell[i] for cell in cells}) > 1]
    made = []
    for cell, finals in cells.items():
        label = " · ".join([cell[0], *(f"{per[i]} {cell[i]}" for i in telling)])
        made.append(
            TuningSearch(
                label,
                tuple(tune.settings()),
                candidates(tune, finals[0][1]),
                tuple(finals),
                tune.scheduler,
            )
        )
    return made


def _per(tune: Tune) -> tuple[str, ...]:
    return ("norm", *(key for key in dict.fromkeys(tune.per) if key != "norm"))


def _cells(tune: Tune, trials: list[Trial]) -> dict[tuple[str, ...], list[tuple[int, Trial]]]:
    """The final trials for which settings are chosen together, each with its place."""
    cells: dict[tuple[str, ...], list[tuple[int, Trial]]] = {}
    for place, trial in enumerate(trials):
        cells.setdefault(tuple(_text(trial, key) for key in _per(tune)), []).append((place, trial))
    return cells


def _text(trial: Trial, key: str) -> str:
    """A trial's value on an axis as text; equal texts stand for equal values."""
    if key == "norm":
        return trial.norm_label
    if key == "model":
        spec = trial.model
        return (
            spec.name + (f" {spec.stem}" if spec.stem != "cifar" else "") + (f" {spec.kwargs}" if spec.kwargs else "")
        )
    value = _grid.value_of(trial, key)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def candidates(tune: Tune, representative: Trial) -> tuple[Trial, ...]:
    """The candidates of a cell, which is represented by the first of its final trials.

    Candidates are trained on less data, and are neither attacked nor measured. They do not name the test split, which
    they never see.
    """
    data = representative.data
    held_out = tune.validation or data.validation or VALIDATION
    unseen = {key: DataSpec.model_fields[key].default for key in ("test_split", "test_examples")}
    parts = {key: getattr(representative, key) for key in Trial.model_fields} | {
        "stage": "tuning",
        "attacks": (),
        "statistics": (),
        "measures": (),
    }
    trial = Trial(**parts | {"data": data.model_copy(update={"validation": held_out, **unseen})})
    settings = tune.settings()
    made = [
        with_settings(trial, tuple(zip(settings, values, strict=True)))
        for values in itertools.product(*settings.values())
    ]
    return tuple(
        Trial(**{key: getattr(t, key) for key in Trial.model_fields} | {"seed": seed})
        for seed in tune.distinct_seeds()
        for t in made
    )


def check(suite: Suite, sound: set[str]) -> list[Finding]:
    """The parts of a suite that contradict its `tune`. `sound`: the suite's keys that hold what the file says and not a
    stand-in.
    """
    if suite.tune is None or "tune" not in sound:
        return []
    tuned = suite.tune.settings()
    findings = []
    if "train" in sound:
        findings += [
            Finding(("train", key), f"tune chooses {key} too; write it in one of the two places")
            for key in tuned
            if key in suite.train.model_fields_set
        ]
    findings += [finding for finding in _rules(suite, tuned) if finding.location[0] in sound]
    if findings or not sound >= set(type(suite).model_fields):
        return findings
    try:
        trials = _grid.build(suite)[0]
    except _grid.GridError:
        return []  # told by the check of the grid
    return list(_sizes(suite.tune, trials))


def _rules(suite: Suite, tuned: dict[str, Any]) -> Iterator[Finding]:
    """Find the rules that ask for a setting that tuning chooses, or change one."""
    for name in ("exclude", "include", "overrides"):
        for i, rule in enumerate(getattr(suite, name)):
            for part in ("when", "set") if name == "overrides" else ("",):
                given = (getattr(rule, part) if part else rule).model_fields_set
                yield from (
                    Finding((name, i, *filter(None, [part]), key), f"tune chooses {key}, so that no rule can name it")
                    for key in tuned
                    if key in given
                )


def _sizes(tune: Tune, trials: list[Trial]) -> Iterator[Finding]:
    values = math.prod(map(len, tune.settings().values()))
    count = len(_cells(tune, trials)) * values * len(tune.distinct_seeds())
    if len(trials) + count > _grid.MAX_TRIALS:
        told = f"{count:,} candidates beside {len(trials):,} final trials"
        yield Finding(("tune",), f"{told} are more than the {_grid.MAX_TRIALS:,} trials that a suite may have")
        return
    made = searches(tune, trials)
    for location, message in dict.fromkeys(_recipe.problems(c for s in made for c in s.candidates)):
        key = location[-1]
        yield Finding(("tune", key) if key in tune.settings() else location, message)
    for data, size in dict.fromkeys((s.candidates[0].data, s.candidates[0].batch_size) for s in made):
        yield from (
            Finding(("tune",), f"{f.message}, as candidates hold out {data.validation:g}")
            for f in _grid.batch_problems(data, size)
        )
