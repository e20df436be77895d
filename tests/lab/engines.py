"""A small network, data and runs of an engine's first steps, for tests of engines, with the plain loop beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from normbench import measures, norms
from normbench.lab import train as training
from normbench.lab.engine.steps import Kind
from normbench.lab.network.swap import swap
from normbench.lab.observer import Observer
from normbench.lab.train import STEP_LOSS, Record, Tensors, learning_rate, make_optimizer
from normbench.measures import Probe
from normbench.spec.trial import Trial
from torch import nn

from tests.conftest import stripes
from tests.lab.naive import augment, batches

STEPS = 50
#: Where rounding alone decides the loss within 50 steps: the gradient of single eigenvectors divides by the gaps
#: between eigenvalues. Compared until a shaken twin is off by the tolerance.
CHAOTIC = {"bw-pca"}


class Net(nn.Module):
    """A convolution with its norm and a residual branch that ends in one: every method has its place, `skipinit`
    too.
    """

    def __init__(self, norm: str, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.branch: nn.Module = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(32, 3)
        )
        swap(self, norms.resolve(norm)[1], torch.zeros(2, 1, 8, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = self.stem(images - 0.5)
        logits: torch.Tensor = self.head(stem + self.branch(stem))
        return logits


def small(norm: str) -> Net:
    """With one place for `norm` alone, which compiles in half the time."""
    net = Net(norm)
    net.branch = nn.Identity()
    return net


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(training, "FIRST_STEPS", STEPS)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def some_data() -> Tensors:
    """90 images: at batches of 16, the sixth and last of an epoch has 10."""
    images, labels = stripes(90, 0)
    return Tensors(torch.from_numpy(images)[:, None], torch.from_numpy(labels))


def plain(model: nn.Module, trial: Trial, data: Tensors) -> list[float]:
    """Losses of the first steps of the plain eager loop in float32."""
    spec, count, losses = trial.train, len(data.labels), list[float]()
    optimizer, criterion = make_optimizer(model, spec), nn.CrossEntropyLoss(label_smoothing=spec.label_smoothing)
    an_epoch = count // trial.batch_size + (not spec.drop_last and count % trial.batch_size > 0)
    for epoch in range(1, spec.epochs + 1):
        model.train()
        generator = torch.Generator().manual_seed(trial.seed * 1_000_003 + epoch)
        for index in batches(count, trial.batch_size, drop_last=spec.drop_last, generator=generator):
            images = augment(data.images[index].float() / 255, trial.data.augment, generator)
            for group in optimizer.param_groups:
                share = group.get("lr_scale", 1.0)  # `fixup` has one
                group["lr"] = learning_rate(len(losses), an_epoch * spec.epochs, spec) * share
            loss = criterion(model(images), data.labels[index])
            optimizer.zero_grad()
            loss.backward()
            if spec.clip_grad is not None:
                nn.utils.clip_grad_norm_(model.parameters(), spec.clip_grad)
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) == STEPS:
                return losses
    return losses


def ours(
    model: nn.Module, trial: Trial, data: Tensors, engine: Kind, *measured: str, precision: str = "float32"
) -> Record:
    optimizer, record = make_optimizer(model, trial.train), Record()
    found = [measures.registry.make(name, {}) for name in measured]
    observer = Observer(
        found,
        Probe(model=model, images=data.images[:8].float() / 255, labels=data.labels[:8], optimizer=optimizer),
        trial.train,
    )
    training.train(
        model,
        trial,
        data,
        precision=precision,
        optimizer=optimizer,
        observer=observer,
        report=lambda _: None,
        record=record,
        stop=STEPS,
        engine=engine,
    )
    assert not observer.errors
    return record


def losses_of(record: Record) -> list[float]:
    return [r.value for r in record.curves if r.measure == STEP_LOSS and r.value is not None]
