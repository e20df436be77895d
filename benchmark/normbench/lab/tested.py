"""A trained network on the test images: clean, attacked, by other statistics. And can these numbers be trusted?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

import normbench.attacks as attacks
import normbench.statistics as statistics
from normbench.attacks._gradient import GradientAttack
from normbench.lab import evaluate, health
from normbench.lab.attacked import Attacked
from normbench.lab.engine.gradients import Searches
from normbench.lab.engine.steps import chosen
from normbench.lab.restated import restated
from normbench.lab.train import Progress, Record, Tensors
from normbench.spec import robustness
from normbench.spec.trial import Trial

if TYPE_CHECKING:
    from normbench.lab.trial_run import Context

#: Images of an evaluation step. Robust accuracies do not depend on it, but for the rounding of a compiled search.
EVALUATION_BATCH = 500


def tested(
    trial: Trial,
    context: Context,
    model: torch.nn.Module,
    training: Tensors,
    test: Tensors,
    *,
    precision: str,
    record: Record,
    found: dict[str, Any],
    report: Callable[[Progress], None],
) -> None:
    """Evaluate on the test images. `found` gets each part of the outcome once it is there."""
    told = partial(_report_share, trial, record, report)
    clean = evaluate.clean(model, test, EVALUATION_BATCH)
    found |= {
        "clean_correct": int(clean.correct.sum()),
        "test_total": len(clean.correct),
        "clean_outcomes": evaluate.pack(clean.correct),
        "test_loss": clean.loss,
    }
    attacked = Attacked()
    methods = [attacks.registry.from_component(c) for c in trial.attacks]
    searches = _searches(model, test, precision, context)
    for method in methods:
        attacked.run(
            model,
            method,
            test,
            clean.correct,
            seed=trial.seed,
            batch_size=EVALUATION_BATCH,
            data_dir=context.data_dir,
            report=partial(told, method.name),
            searches=searches,
        )
        found["attacks"] = tuple(attacked.results)
        if searches:  # an attack may have made one give up what it began with
            found["provenance"] |= searches.facts
    if trial.statistics:
        other = restated(
            model,
            [statistics.registry.from_component(c) for c in trial.statistics],
            methods,
            test,
            training.images,
            seed=trial.seed,
            batch_size=EVALUATION_BATCH,
            data_dir=context.data_dir,
            report=told,
        )
        found["attacks"] = (*attacked.results, *other.results)
        if other.absent:
            found["provenance"]["statistics_absent"] = other.absent
    attacked.settle()  # after a failure there is no worst case, and nothing is said of the evaluation's health
    found["robustness"] = robustness.curves(found["clean_outcomes"], attacked.results)
    if found["robustness"]:
        found["health"] = health.examine(
            model,
            test,
            clean.correct,
            attacked.results,
            seed=trial.seed,
            batch_size=EVALUATION_BATCH,
            searched=[p for m in methods for p in m.parts() if isinstance(p, GradientAttack)] if searches else (),
        )


def _searches(model: torch.nn.Module, test: Tensors, precision: str, context: Context) -> Searches | None:
    """The models that attacks search with, under engines other than `eager`."""
    if chosen(context.engine, context.device) == "eager":
        return None
    images, labels = test.images[:EVALUATION_BATCH], test.labels[:EVALUATION_BATCH]
    return Searches(model, precision, evaluate.pixels(images), labels)


def _report_share(trial: Trial, record: Record, report: Callable[[Progress], None], name: str, done: float) -> None:
    """Say which share of an attack, or of the images by other statistics, is done."""
    report(
        Progress(
            epoch=record.epoch,
            epochs=trial.train.epochs,
            loss=record.loss or 0.0,
            accuracy=next((r.value for r in reversed(record.curves) if r.measure == "train.accuracy"), None) or 0.0,
            images_per_second=record.images / record.seconds if record.seconds else 0.0,
            phase=f"{name} {done:.0%}",
        )
    )
