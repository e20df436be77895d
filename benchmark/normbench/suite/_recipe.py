"""Settings of training that contradict each other, or that have no effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from normbench.spec.trial import NESTEROV, TrainSpec, Trial
from normbench.suite._models import Suite
from normbench.suite._problems import Finding, Location

#: Smallest parameter of a beta distribution but 0. Below about 1e-3 its draws are 0 or 1, and at last no number.
LEAST_ALPHA = 0.01


def check(suite: Suite, trials: Collection[Trial]) -> Iterator[Finding]:
    """The problems of the trials of a suite's grid, and the settings of its `train` that none of them heeds."""
    trains = list({id(t.train): t.train for t in trials}.values())
    for location, message in dict.fromkeys(problems(trials)):
        yield Finding(location, message)
    tuned = suite.tune.settings() if suite.tune else {}
    given = suite.train.model_fields_set
    schedules = {t.schedule for t in trains} | set(tuned.get("schedule", ()))
    for key in ("milestones", "factor"):
        if trains and "step" not in schedules and (key in given or key in tuned):
            place = "train" if key in given else "tune"
            yield Finding((place, key), f"{key} is of `schedule: step`, and no trial has that schedule")
    heeding = {t.optimizer for t in trains} | set(tuned.get("optimizer", ()))
    if any(t.nesterov for t in trains) and not heeding & set(NESTEROV):
        yield Finding(("train", "nesterov"), f"Nesterov momentum is of {', '.join(NESTEROV)}, and no trial has these")


def problems(trials: Iterable[Trial]) -> Iterator[tuple[Location, str]]:
    """What is wrong with single trials, each with the place of the setting that is to be changed."""
    for train, size in {(id(t.train), t.batch_size): (t.train, t.batch_size) for t in trials}.values():
        yield from _of(train, size)


def _of(train: TrainSpec, size: int) -> Iterator[tuple[Location, str]]:
    if train.agc is not None and train.clip_grad is not None:
        yield ("train", "agc"), "agc and clip_grad both clip gradients; expected one of them, the other null"
    if train.nesterov and train.optimizer in NESTEROV and train.momentum == 0:
        yield ("train", "nesterov"), "Nesterov momentum needs a momentum above 0, found 0"
    for key in ("mixup", "cutmix"):
        if (alpha := getattr(train, key)) == 0:
            continue
        if alpha < LEAST_ALPHA:
            yield ("train", key), f"expected 0 or a number from {LEAST_ALPHA:g} to 100, found {alpha:g}"
        if train.adversarial:
            yield ("train", key), f"{key} mixes labels, which the attack of adversarial training needs whole"
        if size % 2:
            yield ("batch_sizes",), f"{key} pairs the images of a batch: expected an even batch size, found {size}"
        if not train.drop_last:
            yield ("train", "drop_last"), f"{key} pairs the images of a batch, and the last one may be odd; write true"
