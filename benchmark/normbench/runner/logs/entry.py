"""A trial as loggers take it: settings and numbers by name."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from normbench.spec.outcome import Outcome, Status
from normbench.spec.text import show
from normbench.spec.trial import Trial

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One ended trial."""

    suite: str
    trial_id: str
    name: str
    """For people, within its suite: the norm, what seed, the first digits of the id."""
    slug: str
    """The same, fit to be the name of a folder."""
    stage: str
    status: Status
    reason: str
    started: float
    """Unix time."""
    settings: Mapping[str, Scalar]
    """Of the specification, flat: `train.lr`."""
    curves: Mapping[int, Mapping[str, float]]
    """By optimizer step: each quantity, `weight-norm.raw/layer1.0.conv1.weight`."""
    final: Mapping[str, float]
    """Numbers of the trained network: `accuracy`, `accuracy/bim[steps=20]/8/255`."""

    @classmethod
    def of(cls, suite: str, trial: Trial, outcome: Outcome) -> Entry:
        name = f"{trial.norm_label} seed {trial.seed}"
        name += (" tuning" if trial.stage == "tuning" else "") + f" {trial.trial_id[:8]}"
        return cls(
            suite=suite,
            trial_id=trial.trial_id,
            name=name,
            slug=re.sub(r"[^\w.+=-]+", "-", name),
            stage=trial.stage,
            status=outcome.status,
            reason=outcome.reason,
            started=outcome.started or time.time(),
            settings=_flat(trial.model_dump(mode="json")),
            curves=_curves(outcome),
            final=_final(outcome),
        )


class Log(Protocol):
    """One logger. Methods raise whatever its library raises."""

    @property
    def greeting(self) -> str:
        """What people should know once: where numbers go. Empty for nothing."""

    def trial(self, entry: Entry) -> None:
        """Write one trial; when this returns, the library has it."""


def _curves(outcome: Outcome) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for reading in outcome.curves:
        if reading.value is not None:
            key = f"{reading.measure}/{reading.layer}" if reading.layer else reading.measure
            steps.setdefault(reading.step, {})[key] = reading.value
    return dict(sorted(steps.items()))


def _final(outcome: Outcome) -> dict[str, float]:
    numbers: dict[str, float | None] = {
        "accuracy": outcome.clean_accuracy,
        "loss": outcome.test_loss,
        "train loss": outcome.train_loss,
        "validation accuracy": outcome.validation_accuracy,
        "images per second": outcome.images_per_second,
        "seconds": outcome.wall_seconds or None,
    }
    numbers |= {f"accuracy/{a.attack}/{show(a.size)}": a.accuracy for a in outcome.attacks}
    numbers |= {f"robust area/{c.threat}/{c.attack}": c.area for c in outcome.robustness}
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _flat(value: Any, prefix: str = "") -> dict[str, Scalar]:
    """Settings by dotted names; lists, and what is empty, as JSON."""
    if isinstance(value, dict) and value:
        inner = (_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items())
        return {k: v for part in inner for k, v in part.items()}
    return {prefix: value if isinstance(value, bool | int | float | str) else json.dumps(value)}
