"""Tuning: which setting of a method is the best on held-out training images, and the trials that follow from it.

A `TuningSearch` is one choice: candidates, which are ordinary trials of stage `tuning`, and the final trials that are
trained with what is chosen among them. The rule: the best validation accuracy after the last epoch, mean over the
tuning seeds, among the settings that ended well with every seed; of equally good ones the one with the smaller learning
rate, then with the smaller value of the other settings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.spec.outcome import Status
from normbench.spec.trial import Trial

#: Ends that all candidates may share and that then say something about the method; anything else is an error of the
#: search.
_TELLING = {Status.DIVERGED, Status.OUT_OF_MEMORY, Status.TIMED_OUT, Status.KILLED}

Settings = tuple[tuple[str, Any], ...]
"""Tuned keys of `train` and their values, such as `(("lr", 0.1), ("weight_decay", 0.0))`."""


@dataclass(frozen=True)
class Score:
    """How a setting did: the mean validation accuracy over its seeds, None unless each of them ended well."""

    settings: Settings
    accuracy: float | None


@dataclass(frozen=True)
class Choice:
    """What came of a search. Without `settings` no candidate ended well: then `status` and `reason` are what its final
    trials end with.
    """

    settings: Settings | None
    accuracy: float | None = None
    status: Status = Status.OK
    reason: str = ""


@dataclass(frozen=True)
class TuningSearch:
    """One choice of settings. `finals` are its final trials with their place among all of the suite; the tuned settings
    in them are still open.
    """

    label: str
    """What is chosen for: `bn`, or `bn · batch_size 64` where settings are chosen for more than a method."""
    settings: tuple[str, ...]
    candidates: tuple[Trial, ...]
    finals: tuple[tuple[int, Trial], ...]
    scheduler: str = "none"

    def choose(self, rows: Mapping[str, Mapping[str, Any]]) -> Choice:
        """Apply the rule. `rows`: the stored row of every candidate, by trial_id; of a row only status, reason and
        validation accuracy are read.
        """
        by_settings: dict[Settings, list[Mapping[str, Any]]] = {}
        for trial in self.candidates:
            by_settings.setdefault(settings_of(trial, self.settings), []).append(rows[trial.trial_id])
        found = best(score(settings, several) for settings, several in by_settings.items())
        if found is not None:
            return Choice(found.settings, found.accuracy)
        ends = Counter(rows[t.trial_id]["status"] for t in self.candidates)
        shared = Status(next(iter(ends)))
        status = shared if len(ends) == 1 and shared in _TELLING else Status.ERROR
        told = ", ".join(f"{n} {end.replace('_', ' ')}" for end, n in sorted(ends.items()))
        first = next((r["reason"] for t in self.candidates if (r := rows[t.trial_id])["reason"]), "")
        return Choice(
            None,
            status=status,
            reason=f"not trained: tuning could choose no {' and '.join(self.settings)} ({told})"
            + (f": {first}" if first else ""),
        )

    def settled(self, choice: Choice) -> list[tuple[int, Trial]]:
        """The final trials with the chosen settings; where there are none, with those of the first candidate, by which
        they are then named.
        """
        chosen = settings_of(self.candidates[0], self.settings) if choice.settings is None else choice.settings
        return [(place, with_settings(trial, chosen)) for place, trial in self.finals]


def settings_of(trial: Trial, keys: Sequence[str]) -> Settings:
    return tuple((key, getattr(trial.train, key)) for key in keys)


def with_settings(trial: Trial, settings: Settings) -> Trial:
    parts = {key: getattr(trial, key) for key in Trial.model_fields}
    return Trial(**parts | {"train": trial.train.model_copy(update=dict(settings))})


def score(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> Score:
    """The score of a setting from the rows of its seeds."""
    values = [r["validation_accuracy"] for r in rows]
    good = all(
        r["status"] == Status.OK and v is not None and math.isfinite(v) for r, v in zip(rows, values, strict=True)
    )
    return Score(settings, math.fsum(values) / len(values) if good and values else None)


def best(scores: Iterable[Score]) -> Score | None:
    """The choice among scores; None where no setting ended well."""
    usable = [s for s in scores if s.accuracy is not None]
    return min(usable, key=lambda s: (-(s.accuracy or 0.0), order(s.settings)), default=None)


def order(settings: Settings) -> list[tuple[bool, float, str]]:
    """By which settings are sorted, and equally good ones decided: the learning rate first; numbers by size, words by
    the alphabet, null after all values.
    """
    ordered = sorted(settings, key=lambda item: item[0] != "lr")
    return [(v is None, float(v) if isinstance(v, int | float) else 0.0, str(v)) for _, v in ordered]


def written(settings: Settings) -> str:
    """`lr 0.1, weight_decay 0.0005`."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {'null' if value is None else value}"
        for key, value in settings
    )
