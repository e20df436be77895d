"""`--only norm=gn`: a part of a suite's trials."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import normbench.norms as norms
from normbench.errors import BenchError
from normbench.spec.text import closest, number, show
from normbench.spec.trial import TrainSpec, Trial
from normbench.spec.tuning import TuningSearch
from normbench.suite import Suite, expand, searches

KEYS = ("dataset", "model", "norm", "batch_size", "width", "seed", *TrainSpec.model_fields)


class SelectionError(BenchError):
    """A filter names no known key or a value that no trial has, or no trial has all that is asked for."""


def chosen(suite: Suite, filters: Sequence[str]) -> tuple[list[Trial], list[TuningSearch]]:
    """What a suite plans, as far as it matches: trials, or searches where it tunes. Raises `SuiteError`,
    `SelectionError`.
    """
    if suite.tune is None:
        return select(expand(suite), filters), []
    return [], select_searches(searches(suite), filters)


def select(trials: Sequence[Trial], filters: Sequence[str]) -> list[Trial]:
    """The trials that match every key; several values of one key are alternatives (`norm=gn norm=ln seed=0`)."""
    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise SelectionError(f"--only {text!r}: expected key=value, for example norm=gn")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise SelectionError(
                f"--only {text!r}: there is no key {key!r}; "
                f"{f'did you mean {near[0]!r}?' if near else 'there are ' + ', '.join(KEYS)}"
            )
        if not any(
            _same(key, value_of(t, key), value) for t in trials
        ):  # a value that no trial has is an error even if others match: it would be ignored without a word
            have = _values(trials, key)
            known = norms.registry.known_as(value) if key == "norm" else []
            near = [v for v in have if v.partition("[")[0] in known]
            near = near or closest(value, have, 0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise SelectionError(f"--only {text!r}: no trial of the suite has it; {hint}{key} is {', '.join(have)}")
        wanted.setdefault(key, []).append(value)
    found = [t for t in trials if all(any(_same(k, value_of(t, k), v) for v in values) for k, values in wanted.items())]
    if not found:
        asked = ", ".join(f"{key} {' or '.join(values)}" for key, values in wanted.items())
        raise SelectionError(f"--only: no trial of the suite has all of this at once: {asked}")
    return found


def select_searches(among: Sequence[TuningSearch], filters: Sequence[str]) -> list[TuningSearch]:
    """The searches with a final trial that matches, reduced to the final trials that match. Such a search keeps all its
    candidates: the choice needs them.
    """
    for search in among:
        for text in filters:
            if (key := text.partition("=")[0].strip()) in search.settings:
                raise SelectionError(
                    f"--only {text!r}: the suite tunes {key}, so that it is known only afterwards; choose by "
                    "another key"
                )
    places = {id(trial) for trial in select([trial for search in among for _, trial in search.finals], filters)}
    kept = (replace(search, finals=tuple(f for f in search.finals if id(f[1]) in places)) for search in among)
    return [search for search in kept if search.finals]


def axes(trials: Sequence[Trial], *, without: Collection[str] = ()) -> list[str]:
    """What differs among trials, a line a key: `norm: bn, gn`. Dataset, model and norm are always named."""
    lines = []
    for key in KEYS:
        values = list(dict.fromkeys(_shown(value_of(t, key)) for t in trials))
        if key not in without and (len(values) > 1 or key in {"dataset", "model", "norm"}):
            lines.append(f"{key}: {', '.join(values)}")
    return lines


def value_of(trial: Trial, key: str) -> object:
    """What a trial has under one of `KEYS`; of adversarial training the attack's name."""
    direct = {
        "dataset": trial.data.dataset,
        "model": trial.model.name,
        "norm": trial.norm_label,
        "batch_size": trial.batch_size,
        "width": trial.model.width,
        "seed": trial.seed,
        "adversarial": trial.train.adversarial.name if trial.train.adversarial else None,
    }
    return direct[key] if key in direct else getattr(trial.train, key)


def _values(trials: Sequence[Trial], key: str) -> list[str]:
    """The values of a key as people write them, each once: numbers by size, then the others in alphabetical order."""
    values = {_written(v): v for t in trials for v in [value_of(t, key)]}
    return sorted(values, key=lambda text: (0, v, "") if isinstance(v := values[text], int | float) else (1, 0, text))


def _shown(value: object) -> str:
    return show(value) if isinstance(value, tuple) else str(value)


def _written(value: object) -> str:
    return "null" if value is None else show(value) if isinstance(value, bool | tuple) else str(value)


def _same(key: str, have: object, text: str) -> bool:
    if key == "norm" and "[" not in text:  # as in a suite's rules: without brackets, whatever the parameters
        return re.sub(r"\[[^\]]*\]", "", str(have)) == text
    if isinstance(have, bool):
        return str(have).lower() == text.lower()
    if isinstance(have, int | float):
        return bool(have == number(text))
    return _written(have) == text
