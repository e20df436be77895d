"""Training, in the plain: one loop, top to bottom.

The order of the images and the draws of the augmentation depend on the trial's seed and the epoch alone, so that all
methods see the same batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import nn

from normbench.lab import batches
from normbench.lab.adversarial import Adversary
from normbench.lab.asking import Asking, Wanted, alone
from normbench.lab.average import Average
from normbench.lab.engine.steps import Engine, Kind
from normbench.lab.mixing import Mixer, mixer
from normbench.lab.observer import Observer
from normbench.norms.layers.manifolds import hold
from normbench.spec.outcome import Reading
from normbench.spec.trial import TrainSpec, Trial

#: Names under which timm's factory has what the suite's names mean, with and without Nesterov momentum.
_TIMM_NAME = {("sgd", False): "momentum", ("sgd", True): "sgd", ("lars", True): "nlars", ("muon", True): "nmuon"}
_PROGRESS_SECONDS = 1.0
#: The losses of so many first optimizer steps are kept one by one. A re-run of these steps alone is compared with them
#: (`normbench.trust`).
FIRST_STEPS = 10
STEP_LOSS = "train.step-loss"


class Diverged(RuntimeError):  # noqa: N818
    """The training loss stopped being finite in `epoch` (counted from 1)."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the training loss was not finite in epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True)
class Tensors:
    """A split on the device: `images` uint8 (N, C, H, W), `labels` int64 (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a running trial is. Loss and accuracy are those of the epoch so far."""

    epoch: float
    epochs: int
    loss: float
    accuracy: float
    images_per_second: float
    phase: str = "train"
    validation_accuracy: float | None = None
    """What the scheduler of a tuning candidate judges it by, after an epoch. The fields below come with it, so that
    something is left of a candidate that is stopped.
    """
    readings: tuple[dict[str, Any], ...] = ()
    """The `Reading`s of this epoch, as plain values."""
    train_seconds: float = 0.0
    """Of all epochs so far."""


@dataclass
class Record:
    """What training leaves besides the weights."""

    curves: list[Reading] = field(default_factory=list)
    epoch: int = 0
    seconds: float = 0.0
    images: int = 0
    loss: float | None = None
    engine: str = ""
    """What computed the steps, see `normbench.lab.engine.steps`; empty before the first."""
    engine_reason: str = ""
    """Why it is not the engine that was wanted; empty where it is."""
    compile_seconds: float = 0.0
    """Not part of `seconds`."""
    adversary: str = ""
    """Of adversarial training under a compiled engine: what computes the gradients that its attack climbs, `compile` or
    `eager`.
    """
    adversary_reason: str = ""
    """Why that is not `compile`; empty where it is."""


def parameter_groups(model: nn.Module, spec: TrainSpec) -> list[dict[str, object]]:
    """Split parameters into those that decay and the others. With `decay: weights`, a tensor decays if its output rows
    have more than one value. What a module trains with a share of the learning rate (its `rate_shares`) is in groups of
    its own, with the share as `lr_scale`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if spec.decay == "all" or (p.ndim > 1 and p.numel() > p.shape[0])]
    rest = [p for p in trained if not any(p is d for d in decayed)]
    shares = {
        id(getattr(module, name)): share
        for module in model.modules()
        for name, share in getattr(module, "rate_shares", {}).items()
    }
    groups: list[dict[str, object]] = [
        {"params": found, "weight_decay": decay, **({} if share == 1 else {"lr_scale": share})}
        for share in sorted({1.0, *shares.values()}, reverse=True)
        for part, decay in ((decayed, spec.weight_decay), (rest, 0.0))
        if (found := [p for p in part if shares.get(id(p), 1.0) == share])
    ]
    return groups


def make_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = create_optimizer_v2(
        parameter_groups(model, spec),
        opt=_TIMM_NAME.get((spec.optimizer, spec.nesterov), spec.optimizer),
        lr=spec.lr,
        weight_decay=0.0,
        momentum=spec.momentum,
    )
    hold(model, made)
    return made


def learning_rate(step: int, total: int, spec: TrainSpec) -> float:
    """Learning rate of optimizer step `step` (from 0) of `total`: linear warm-up to `spec.lr`, then the schedule: down
    to zero after the last step, or down by a factor at each milestone, which is a share of all steps.
    """
    warm = round(total * spec.warmup)
    if step < warm:
        return spec.lr * (step + 1) / warm
    if spec.schedule == "step":
        return spec.lr * spec.factor ** sum(step >= round(total * milestone) for milestone in spec.milestones)
    done = (step - warm) / max(1, total - warm)
    return (
        spec.lr * {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[spec.schedule]
    )


@dataclass
class _Epoch:
    """An epoch so far. The sums stay on the device, so that no step waits for them."""

    number: int
    loss: torch.Tensor
    correct: torch.Tensor
    seen: int = 0
    first_losses: list[torch.Tensor] = field(default_factory=list)
    """Of the first steps of the whole training, where they are in this epoch."""
    started: float = field(default_factory=time.perf_counter)
    shown: float = 0.0
    """When progress was reported last; 0: not yet."""

    def add(self, logits: torch.Tensor, loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: its logits (N, classes), mean loss and labels: (N,), or (N, classes) of mixed images, of which
        the largest share is the one to be found.
        """
        labels = labels.argmax(1) if labels.ndim > 1 else labels
        self.seen += len(labels)
        self.loss += loss * len(labels)
        self.correct += (logits.argmax(1) == labels).sum()

    @property
    def means(self) -> tuple[float, float]:
        """Loss and accuracy over the images so far."""
        return float(self.loss) / self.seen, float(self.correct) / self.seen

    def report_when_due(self, report: Callable[[Progress], None], count: int, epochs: int) -> None:
        """Report progress unless that was done within the last second. count: images of an epoch."""
        now = time.perf_counter()
        if now - (self.shown or self.started) <= _PROGRESS_SECONDS:
            return
        self.shown = now
        loss, accuracy = self.means
        report(
            Progress(
                epoch=self.number - 1 + self.seen / count,
                epochs=epochs,
                loss=loss,
                accuracy=accuracy,
                images_per_second=self.seen / (now - self.started),
            )
        )


def train(model: nn.Module, trial: Trial, data: Tensors, **settings: Any) -> None:
    """`training` of one model by itself. settings: as there. Raises `Diverged`."""
    alone(training(model, trial, data, **settings))


def training(
    model: nn.Module,
    trial: Trial,
    data: Tensors,
    *,
    precision: str,
    optimizer: torch.optim.Optimizer,
    observer: Observer,
    report: Callable[[Progress], None],
    record: Record,
    stop: int | None = None,
    after_epoch: Callable[[], None] = lambda: None,
    engine: Kind = "eager",
    classes: int = 0,
    average: Average | None = None,
) -> Asking[None]:
    """Train in place, filling `record` as it goes, so that what was measured before a failure is kept. Each computation
    is asked for.

    `optimizer`: see `make_optimizer`. `observer` looks before the first step and after every epoch, and is shown the
    steps that it asks for. `stop`: leave off after so many steps, in the middle of an epoch, with nothing but the
    losses of the first steps. If `record` has epochs, it is that of an interrupted training, which goes on after them.
    `after_epoch` is called between epochs, when nothing is in progress. `engine`: the engine that is wanted; `record`
    says which one computed. classes: how many there are; 0: as many as the labels name. average: takes in the network
    after every step. Raises `Diverged`.
    """
    spec, device = trial.train, data.images.device
    count = len(data.labels)
    steps_an_epoch = _steps_an_epoch(count, trial)
    total = steps_an_epoch * spec.epochs
    adversary = Adversary(spec.adversarial) if spec.adversarial else None
    mixing = mixer(spec, classes or int(data.labels.max()) + 1)
    if not record.epoch:
        record.curves += observer.look(0, 0)
    steps = Engine(model, optimizer, spec, precision=precision, wanted=engine)
    yield from _prepare(steps, adversary, mixing, model, trial, data, record)
    step = record.epoch * steps_an_epoch
    for number in range(record.epoch + 1, spec.epochs + 1):
        model.train()
        generator = torch.Generator().manual_seed(trial.seed * 1_000_003 + number)
        epoch = _Epoch(number, torch.zeros((), device=device), torch.zeros((), device=device))
        for batch in batches.epoch(
            count,
            trial.batch_size,
            drop_last=spec.drop_last,
            augment=trial.data.augment,
            side=data.images.shape[-1],
            seeds=adversary is not None,
            mixes=mixing is not None,
            generator=generator,
            device=device,
        ):
            images = batches.augmented(data.images[batch.index].float() / 255, batch)
            labels = data.labels[batch.index]
            if adversary:
                images = adversary(model, images, labels, batch.seeds)
            if mixing:
                images, labels = mixing(images, labels, batch.mix)
            steps.rate(learning_rate(step, total, spec))
            if observer.follows(step, number, steps_an_epoch):
                logits, loss = yield Wanted("gradients", steps, images, labels)
                watched = observer.before(step, number, steps_an_epoch)
                steps.update()
            else:
                logits, loss = yield Wanted("step", steps, images, labels)
                watched = None
            step += 1
            if average:
                average.update(model, step)
            if step <= FIRST_STEPS:
                epoch.first_losses.append(loss)
            if watched:
                record.curves += observer.after(watched)
            epoch.add(logits, loss, labels)
            if step == stop:
                break
            epoch.report_when_due(report, count, spec.epochs)
        mean_loss, accuracy = epoch.means
        record.seconds += time.perf_counter() - epoch.started
        record.images += epoch.seen
        _note_engines(record, steps, adversary)
        record.curves += _step_losses(epoch.first_losses, number, steps_an_epoch)
        if step == stop:
            return
        record.curves += _readings(step, number, mean_loss, accuracy, learning_rate(step - 1, total, spec))
        if not math.isfinite(mean_loss):
            raise Diverged(number)
        record.epoch, record.loss = number, mean_loss
        record.curves += observer.look(step, number)
        rate = record.images / record.seconds
        report(Progress(epoch=number, epochs=spec.epochs, loss=mean_loss, accuracy=accuracy, images_per_second=rate))
        after_epoch()


def validated(trial: Trial, record: Record, reading: Reading) -> Progress:
    """What is known after an epoch of a candidate. `reading`: its validation accuracy, which `record` does not hold
    yet.
    """
    readings = [r for r in record.curves if r.epoch > reading.epoch - 1] + [reading]
    return Progress(
        epoch=reading.epoch,
        epochs=trial.train.epochs,
        loss=record.loss or 0.0,
        accuracy=next((r.value for r in readings if r.measure == "train.accuracy"), None) or 0.0,
        images_per_second=record.images / record.seconds if record.seconds else 0.0,
        phase="validation",
        validation_accuracy=reading.value,
        readings=tuple(r.model_dump() for r in readings),
        train_seconds=record.seconds,
    )


def _steps_an_epoch(count: int, trial: Trial) -> int:
    steps = count // trial.batch_size if trial.train.drop_last else math.ceil(count / trial.batch_size)
    if steps == 0:
        raise ValueError(
            f"batch_size {trial.batch_size} is larger than the {count} training images, and drop_last leaves no batch"
        )
    return steps


def _prepare(
    steps: Engine,
    adversary: Adversary | None,
    mixing: Mixer | None,
    model: nn.Module,
    trial: Trial,
    data: Tensors,
    record: Record,
) -> Asking[None]:
    """Compile what is to be compiled, for batches like the first one. Nothing is trained here."""
    images, labels = data.images[: trial.batch_size].float() / 255, data.labels[: trial.batch_size]
    if mixing:
        images, labels = mixing(images, labels, 0)
    yield Wanted("prepare", steps, images, labels)
    record.compile_seconds += steps.compile_seconds
    _note_engines(record, steps, adversary)
    if adversary and steps.wanted != "eager":
        adversary.prepare(model, images, labels)
        record.compile_seconds += adversary.search.compile_seconds if adversary.search else 0.0
        _note_engines(record, steps, adversary)


def _note_engines(record: Record, steps: Engine, adversary: Adversary | None) -> None:
    record.engine, record.engine_reason = steps.used, steps.reason
    if adversary and adversary.search:
        record.adversary, record.adversary_reason = adversary.search.engine, adversary.search.reason


def _readings(step: int, epoch: int, loss: float, accuracy: float, rate: float) -> list[Reading]:
    """The readings that every epoch leaves. rate: the learning rate of its last step."""
    finite = loss if math.isfinite(loss) else None
    return [
        Reading(step=step, epoch=epoch, measure="train.loss", value=finite),
        Reading(step=step, epoch=epoch, measure="train.accuracy", value=accuracy),
        Reading(step=step, epoch=epoch, measure="lr", value=rate),
    ]


def _step_losses(losses: list[torch.Tensor], epoch: int, steps_an_epoch: int) -> list[Reading]:
    """Losses of the first steps of an epoch, each before the step's update."""
    values = torch.stack(losses).tolist() if losses else []
    before = (epoch - 1) * steps_an_epoch
    return [
        Reading(
            step=before + i,
            epoch=epoch - 1 + i / steps_an_epoch,
            measure=STEP_LOSS,
            value=value if math.isfinite(value) else None,
        )
        for i, value in enumerate(values, 1)
    ]
