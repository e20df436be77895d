"""The order of the day: data, model, training, measures, clean evaluation, attacks. Trial in, outcome out."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import normbench.measures as measures
from normbench.lab import data as datasets
from normbench.lab import evaluate, weights
from normbench.lab.asking import Asking, alone
from normbench.lab.average import average_of
from normbench.lab.checkpoint import Checkpointer, Training
from normbench.lab.engine.steps import chosen
from normbench.lab.machine import kernels_tried, machine, memory_of, peak_memory, precision_of, settle
from normbench.lab.network.build import build, move
from normbench.lab.network.swap import Audit
from normbench.lab.observer import Observer, constraints, invariant_layers, norm_layers
from normbench.lab.tested import EVALUATION_BATCH, tested
from normbench.lab.train import Diverged, Progress, Record, Tensors, make_optimizer, validated
from normbench.lab.train import training as training_of
from normbench.measures import Probe
from normbench.paths import checkpoint_path
from normbench.spec.outcome import LOG_BYTES, LOG_LINES, Outcome, Reading, Status
from normbench.spec.text import bounded, said
from normbench.spec.trial import Trial
from normbench.tensors.seeding import seed_gpu

#: Measures look at so many training images, the first ones. In the datasets that ship these are balanced over the
#: classes.
PROBE_IMAGES = 256
#: Test images that measures may judge a changed network by.
PROBE_TEST_IMAGES = 1000
VALIDATION = "validation.accuracy"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a trial needs to know about the machine. Only the device, and what a re-run asks for, change what is
    computed.
    """

    data_dir: str | None
    fingerprint: str
    device: str = "cpu"
    threads: int = 1
    engine: str = "auto"
    """The engine of training, and of the model that attacks search with; see `normbench.lab.engine.steps`. Compiled
    code rounds differently, as another number of threads does.
    """
    provenance: dict[str, Any] = field(default_factory=dict)
    identity: str = ""
    """Hash of the trial's identity, which a checkpoint must have in common with it."""
    checkpoints: str | None = None
    """Folder for checkpoints (see `normbench.paths.checkpoint_path`); None: none are kept."""
    checkpoint_seconds: float = 120.0
    """Least time between two of them."""
    weights: Mapping[str, str] | None = None
    """Where the trained network's weights are kept: `root` and `suite` of `normbench.store.weights`; None: nowhere."""
    steps: int | None = None
    """A re-run leaves off after so many optimizer steps, before anything is evaluated; None: it runs the whole trial.
    """
    shake: float = 0.0
    """Move every starting weight by about this share of itself, at random, to see how much rounding alone decides in a
    trial.
    """


def checkpointer(trial: Trial, context: Context) -> Checkpointer | None:
    """The keeper of the trial's checkpoints; None where the context has no place for them."""
    path = checkpoint_path(context.checkpoints, trial.trial_id)
    if path is None:
        return None
    owner = {
        "identity": context.identity,
        "device": context.device,
        "precision": precision_of(trial.train.precision, context.device),
        "threads": context.threads,
    }
    owner["engine"] = chosen(context.engine, context.device)
    return Checkpointer(path, owner, context.checkpoint_seconds)


def run(
    trial: Trial,
    context: Context,
    report: Callable[[Progress], None],
    kept: Checkpointer | None = None,
    *,
    debug: bool = False,
) -> Outcome:
    """`running` of one trial by itself."""
    return alone(running(trial, context, report, kept, debug=debug))


def running(
    trial: Trial,
    context: Context,
    report: Callable[[Progress], None],
    kept: Checkpointer | None = None,
    *,
    debug: bool = False,
) -> Asking[Outcome]:
    """Run one trial to its end; its training steps are asked for. Any error becomes the outcome's status and reason;
    only a Ctrl-C passes through.

    kept: see `checkpointer`. With it, training resumes from a checkpoint, and leaves checkpoints. debug: errors pass
    through, but for divergence.
    """
    started, clock = time.time(), time.perf_counter()
    record = Record()
    found: dict[str, Any] = {}
    status, reason, log = Status.OK, "", ""
    facts: dict[str, Any] = {}
    try:
        yield from _run(trial, context, report, record, found, kept)
    except Diverged as error:
        status, reason = Status.DIVERGED, str(error)
    except BaseException as error:  # any failure of a trial is a result with its reason
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            raise  # somebody may have pressed Ctrl-C; where the signal is ignored, the trial's own code raised this
        if debug:
            raise
        status, reason, log = Status.ERROR, f"{type(error).__name__}: {said(error)}", _tail()
        if memory := memory_of(error):
            status, reason, facts = Status.OUT_OF_MEMORY, said(error) or f"out of {memory}", {"out_of": memory}
    if record.engine:
        facts |= {
            "engine": record.engine,
            "engine_reason": record.engine_reason,
            "compile_seconds": record.compile_seconds,
        }
    if record.adversary:
        facts |= {"adversary": record.adversary, "adversary_reason": record.adversary_reason}
    if kept:
        facts |= {k: v for k, v in {"resumed_at": kept.resumed_at, "checkpoint": kept.problem}.items() if v}
    found["provenance"] = found.get("provenance", context.provenance) | facts
    return Outcome(
        status=status,
        reason=reason,
        log=log,
        epoch=record.epoch,
        train_loss=record.loss,
        curves=tuple(record.curves),
        started=started,
        wall_seconds=time.perf_counter() - clock + (kept.spent if kept else 0.0),
        train_seconds=record.seconds,
        images_per_second=record.images / record.seconds if record.seconds else None,
        peak_memory=peak_memory(context.device),
        **found,
    )


def _run(
    trial: Trial,
    context: Context,
    report: Callable[[Progress], None],
    record: Record,
    found: dict[str, Any],
    kept: Checkpointer | None,
) -> Asking[None]:
    device = torch.device(context.device)
    precision = precision_of(trial.train.precision, context.device)
    found["provenance"] = {**context.provenance, "precision": precision, **machine(device, context.threads)}
    settle(device, context.threads)

    dataset = _dataset(trial, context)
    training = _on_device(dataset.train, device)
    test = _on_device(dataset.test, device) if dataset.test is not None else None
    validation = _on_device(dataset.validation, device) if dataset.validation is not None else None

    model, audit = _network(trial, dataset, device, context.shake)
    found["audit"] = audit.model_dump(mode="json")
    optimizer, average = make_optimizer(model, trial.train), average_of(model, trial.train)
    judged = average.network if average else model
    observer = Observer(
        [measures.registry.from_component(c) for c in trial.measures],
        _probe(trial, model, audit, optimizer, training, test),
        trial.train,
        partial(_validate, trial, judged, validation, record, found, report),
    )
    found["measure_seconds"], found["provenance"]["measure_errors"] = observer.seconds, observer.errors

    so_far = Training(model, optimizer, observer, record, average)
    if kept:
        kept.resume(so_far)
        for reading in record.curves:
            if reading.measure == VALIDATION:
                found["validation_accuracy"] = reading.value  # the last one stays
    with kernels_tried(device):
        yield from training_of(
            model,
            trial,
            training,
            precision=precision,
            optimizer=optimizer,
            observer=observer,
            report=report,
            record=record,
            stop=context.steps,
            after_epoch=partial(_keep, kept, so_far, trial.train.epochs),
            engine=chosen(context.engine, context.device),
            classes=len(dataset.classes),
            average=average,
        )
    if average:
        average.put_into(model)
    if context.steps is None:
        found["provenance"] |= weights.keep(model, trial, dataset, context.weights)
    if context.steps is None and test is not None:
        tested(trial, context, model, training, test, precision=precision, record=record, found=found, report=report)


def _dataset(trial: Trial, context: Context) -> datasets.Dataset:
    """The data of a trial; without test images for a candidate."""
    with contextlib.suppress(datasets.NotDecodedError):
        return datasets.load(trial.data, None, context.fingerprint)
    folder = Path(context.data_dir) if context.data_dir else None
    source = datasets.locate(trial.data, folder, download=True, test=trial.stage == "final")
    return datasets.load(trial.data, source, context.fingerprint)


def _network(
    trial: Trial, dataset: datasets.Dataset, device: torch.device, shake: float
) -> tuple[torch.nn.Module, Audit]:
    """The network on its device, and what the swap of its norms did. shake: see `Context`."""
    model, audit = build(
        trial,
        channels=dataset.channels,
        image_size=dataset.image_size,
        classes=len(dataset.classes),
        mean=dataset.mean,
        std=dataset.std,
    )
    move(model, shake)
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    seed_gpu(trial.seed, device)  # drop-out and noise draw from its stream, which nothing else may have moved
    return model, audit


def _probe(
    trial: Trial,
    model: torch.nn.Module,
    audit: Audit,
    optimizer: torch.optim.Optimizer,
    training: Tensors,
    test: Tensors | None,
) -> Probe:
    """What measures are given."""
    return Probe(
        model=model,
        images=evaluate.pixels(training.images[:PROBE_IMAGES]),
        labels=training.labels[:PROBE_IMAGES],
        optimizer=optimizer,
        batch_size=min(trial.batch_size, PROBE_IMAGES, len(training.labels)),
        seed=trial.seed,
        norms=norm_layers(model, audit),
        constraints=constraints(model, audit, trial.norm, trial.batch_size),
        invariant=invariant_layers(audit),
        test_images=None if test is None else evaluate.pixels(test.images[:PROBE_TEST_IMAGES]),
        test_labels=None if test is None else test.labels[:PROBE_TEST_IMAGES],
    )


def _validate(
    trial: Trial,
    model: torch.nn.Module,
    validation: Tensors | None,
    record: Record,
    found: dict[str, Any],
    report: Callable[[Progress], None],
    step: int,
    epoch: int,
) -> list[Reading]:
    """After an epoch: the accuracy on held-out images, where there are any. A candidate reports it to its scheduler."""
    if validation is None or not epoch:
        return []
    held_out = evaluate.clean(model, validation, EVALUATION_BATCH)
    found["validation_accuracy"] = accuracy = float(held_out.correct.double().mean())
    reading = Reading(step=step, epoch=epoch, measure=VALIDATION, value=accuracy)
    if trial.stage != "final":
        report(validated(trial, record, reading))
    return [reading]


def _keep(kept: Checkpointer | None, training: Training, epochs: int) -> None:
    if kept:
        kept.save_when_due(training, last=training.record.epoch == epochs)


def _on_device(split: datasets.Split, device: torch.device) -> Tensors:
    images = torch.from_numpy(split.images.transpose(0, 3, 1, 2).copy())  # a copy: mapped arrays cannot be written to
    return Tensors(images.to(device), torch.tensor(split.labels).to(device))


def _tail() -> str:
    """The last lines of the traceback being handled."""
    return bounded("\n".join(traceback.format_exc().splitlines()[-LOG_LINES:]), LOG_BYTES, end=True)
