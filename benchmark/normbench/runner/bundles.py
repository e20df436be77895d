"""Which trials of a run share a process and compute their steps as one, under `limits: together`.

`normbench.lab.together` runs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from normbench.spec.trial import Trial, digest


def likeness(trial: Trial) -> str:
    """What trials have in common that can run together, as a hash: all but seeds, measures, attacks, and how weights
    are moved.
    """
    shape = trial.model_dump(mode="json", include={"data", "model", "norm", "batch_size", "stage"})
    spec = trial.train.model_dump(mode="json", include={"precision", "label_smoothing", "drop_last", "epochs"})
    return digest([shape, spec])


def bundles(trials: Iterable[tuple[int, Trial, bool]], most: int) -> list[list[int]]:
    """The numbers of trials that run together, at most `most` at once, in their order. trials: number, trial, and
    whether it is to run by itself.
    """
    found: list[list[int]] = []
    unfilled: dict[str, list[int]] = {}
    for number, trial, by_itself in trials:
        key = "" if by_itself or most == 1 or trial.train.adversarial else likeness(trial)
        bundle = unfilled.get(key)
        if not key or bundle is None or len(bundle) == most:
            bundle = []
            found.append(bundle)
            if key:
                unfilled[key] = bundle
        bundle.append(number)
    return found
