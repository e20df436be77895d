"""What trials will fail at, said before they are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import normbench.attacks as attacks
import normbench.measures as measures
from normbench.spec.loggers import LOGGERS
from normbench.spec.plugins import PluginError
from normbench.spec.shown import counted
from normbench.spec.trial import Trial


def loggers_lacking(names: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each of these loggers whose package this machine lacks."""
    return tuple(f"log: {name} needs {lacks}" for name in names if (lacks := LOGGERS[name].lacks))


def foreseen(trials: Iterable[Trial], data_dir: Path | None) -> tuple[str, ...]:
    """A sentence for each thing that attacks and measures of these trials need and this machine has not, with the
    number of trials that need it. data_dir: the folder of datasets.
    """
    lacking: dict[str, str] = {}
    found: Counter[str] = Counter()
    for trial in trials:
        told = set()
        for registry, components in ((attacks.registry, trial.attacks), (measures.registry, trial.measures)):
            for component in components:
                key = component.model_dump_json()
                if key not in lacking:
                    try:
                        lacking[key] = registry.make(component.name, component.params).lacks(data_dir)
                    except PluginError as error:
                        lacking[key] = str(error)
                told.add(lacking[key])
        found.update(told - {""})
    return tuple(f"{text} ({counted(count, 'trial')})" for text, count in sorted(found.items()))
