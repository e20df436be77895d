"""The training loop: its schedule, its batches, its determinism."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from normbench.lab.observer import Observer
from normbench.lab.train import (
    FIRST_STEPS,
    STEP_LOSS,
    Diverged,
    Progress,
    Record,
    Tensors,
    _Epoch,
    learning_rate,
    make_optimizer,
    parameter_groups,
    train,
    validated,
)
from normbench.measures import Probe
from normbench.spec.outcome import Reading
from normbench.spec.trial import OPTIMIZERS, TrainSpec, Trial
from torch import nn

from tests.conftest import MakeTrial


@given(st.integers(1, 500), st.sampled_from(["cosine", "linear", "constant", "step"]), st.floats(0, 0.9))
def test_learning_rate_rises_then_falls_and_never_passes_its_peak(total: int, schedule: str, warmup: float) -> None:
    spec = TrainSpec(lr=0.3, schedule=schedule, warmup=warmup)
    rates = [learning_rate(step, total, spec) for step in range(total)]
    warm = round(total * warmup)
    assert all(0 < r <= 0.3 + 1e-12 for r in rates)
    assert all(a < b for a, b in pairwise(rates[:warm]))
    assert all(a >= b for a, b in pairwise(rates[warm:]))


def test_cosine_at_known_points() -> None:
    spec = TrainSpec(lr=2.0, schedule="cosine")
    assert learning_rate(0, 100, spec) == 2.0
    assert learning_rate(50, 100, spec) == pytest.approx(1.0)
    assert learning_rate(25, 100, spec) == pytest.approx(1 + math.sqrt(0.5))


def test_decay_leaves_out_biases_affine_parameters_and_gains() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    model = nn.Sequential(layer, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, rest = parameter_groups(model, TrainSpec(weight_decay=0.1))
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]  # type: ignore[attr-defined]
    assert sorted(tuple(p.shape) for p in rest["params"]) == [(2,), (4,), (4,), (4,), (4, 1, 1, 1)]  # type: ignore[attr-defined]
    assert rest["weight_decay"] == 0
    (everything,) = parameter_groups(model, TrainSpec(weight_decay=0.1, decay="all"))
    assert len(everything["params"]) == 7  # type: ignore[arg-type]


def test_sgd_is_plain_momentum() -> None:
    model = nn.Linear(1, 1)
    made = make_optimizer(model, TrainSpec(optimizer="sgd", momentum=0.5))
    assert isinstance(made, torch.optim.SGD)
    assert made.defaults["nesterov"] is False
    assert made.defaults["momentum"] == 0.5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_the_schema_takes_a_step(name: str) -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    made = make_optimizer(model, TrainSpec(optimizer=name, lr=0.1))
    model(torch.ones(1, 2)).sum().backward()
    made.step()
    assert not torch.equal(model.weight, before)


class _Seen(nn.Module):
    """Remembers what it was shown."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(16, 3)
        self.scale = scale
        self.batches: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(images.detach().clone())
        logits: torch.Tensor = self.head(images.flatten(1)) * self.scale
        return logits


def _data() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    return Tensors(torch.randint(0, 256, (40, 1, 4, 4), generator=generator, dtype=torch.uint8), torch.arange(40) % 3)


def _run(model: nn.Module, trial: Trial, record: Record, stop: int | None = None, **settings: Any) -> None:
    data, optimizer = _data(), make_optimizer(model, trial.train)
    observer = Observer(
        [],
        Probe(model=model, images=torch.zeros(1, 3, 8, 8), labels=data.labels[:1], optimizer=optimizer),
        trial.train,
        also=settings.pop("also", lambda step, epoch: []),
    )
    train(
        model,
        trial,
        data,
        precision="float32",
        optimizer=optimizer,
        observer=observer,
        record=record,
        stop=stop,
        **{"report": lambda p: None} | settings,
    )


def _train(model: nn.Module, make_trial: MakeTrial, **settings: object) -> Record:
    record = Record()
    _run(model, make_trial(**settings), record)
    return record


def test_methods_with_one_seed_see_the_same_batches(make_trial: MakeTrial) -> None:
    shown = []
    for norm, seed in (("bn", 1), ("gn", 1), ("bn", 2)):
        torch.manual_seed(len(shown))  # whatever building the model drew
        model = _Seen()
        _train(model, make_trial, norm=norm, seed=seed, data={"augment": ("flip",)}, epochs=2)
        shown.append(torch.stack(model.batches))
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0][:2], shown[0][2:])  # epochs differ


def test_divergence_ends_with_the_epoch_and_keeps_what_was_measured(make_trial: MakeTrial) -> None:
    record = Record()
    with pytest.raises(Diverged, match="epoch 1") as told:
        _run(_Seen(scale=1e38), make_trial(lr=1000.0, epochs=3), record)
    assert (record.epoch, told.value.epoch) == (0, 1)
    assert [r.value for r in record.curves if r.measure == "train.loss"] == [None]


def test_gradient_is_clipped_to_its_norm(make_trial: MakeTrial) -> None:
    model = _Seen(scale=1000.0)
    before = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    _train(model, make_trial, epochs=1, lr=1.0, momentum=0.0, batch_size=40, schedule="constant", clip_grad=0.01)
    moved = torch.cat([(model.head.weight - before[0]).flatten(), model.head.bias - before[1]])
    assert float(moved.detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_batch_larger_than_the_data_is_refused(make_trial: MakeTrial) -> None:
    with pytest.raises(ValueError, match="batch_size 64 is larger than the 40 training images"):
        _train(_Seen(), make_trial, batch_size=64)
    record = _train(_Seen(), make_trial, batch_size=64, drop_last=False)
    assert record.images == 40


def test_the_first_steps_losses_are_kept_and_a_stop_changes_none_of_them(make_trial: MakeTrial) -> None:
    trial = make_trial(epochs=6)  # two steps of 16 images an epoch
    whole, cut = Record(), Record()
    _run(_Seen(), trial, whole)
    _run(_Seen(), trial, cut, stop=5)
    losses = [r for r in whole.curves if r.measure == STEP_LOSS]
    assert [(r.step, r.epoch) for r in losses] == [(i, i / 2) for i in range(1, FIRST_STEPS + 1)]
    assert [r for r in cut.curves if r.measure == STEP_LOSS] == losses[:5]
    assert cut.images == 80
    means = [r.value for r in whole.curves if r.measure == "train.loss"]
    pairs = [
        (a.value + b.value) / 2
        for a, b in zip(losses[::2], losses[1::2], strict=True)
        if a.value is not None and b.value is not None
    ]
    assert means[:5] == pytest.approx(pairs, rel=1e-6)
    overflow = Record()
    with pytest.raises(Diverged):
        _run(_Seen(scale=1e38), make_trial(lr=1000.0), overflow)
    assert None in [r.value for r in overflow.curves if r.measure == STEP_LOSS]


def test_the_loss_of_an_epoch_is_the_mean_over_images_not_over_batches(make_trial: MakeTrial) -> None:
    """40 images in batches of 16, 16 and 8; the rate is too small to move anything."""
    model, data = _Seen(), _data()
    record = _train(model, make_trial, drop_last=False, lr=1e-30, epochs=2)
    images = data.images.float() / 255
    losses = nn.functional.cross_entropy(model.head(images.flatten(1)), data.labels, reduction="none")
    found = [r.value for r in record.curves if r.measure == "train.loss"]
    assert found == pytest.approx([float(losses.detach().mean())] * 2, rel=1e-6)
    assert record.loss == found[-1]
    assert record.images == 80


@pytest.mark.parametrize("drop_last", [True, False])
def test_the_rate_that_is_recorded_is_that_of_the_last_step(make_trial: MakeTrial, drop_last: bool) -> None:
    steps, epochs = (2 if drop_last else 3), 4
    record = _train(_Seen(), make_trial, drop_last=drop_last, lr=1.0, epochs=epochs, schedule="linear", warmup=0.25)
    warm = round(0.25 * steps * epochs)
    rates = [(s + 1) / warm if s < warm else 1 - (s - warm) / (steps * epochs - warm) for s in range(steps * epochs)]
    assert [r.value for r in record.curves if r.measure == "lr"] == pytest.approx(rates[steps - 1 :: steps], rel=1e-12)
    assert [r.step for r in record.curves if r.measure == "lr"] == [steps * e for e in range(1, epochs + 1)]


def test_the_order_of_the_images_is_drawn_from_the_seed_and_the_epoch(make_trial: MakeTrial) -> None:
    """Stored results rest on this formula: another one is another protocol."""
    model, data = _Seen(), _data()
    _train(model, make_trial, seed=3, epochs=2)
    for epoch in (1, 2):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(3 * 1_000_003 + epoch))
        expected = data.images[order[:32]].float() / 255
        assert torch.equal(torch.cat(model.batches[2 * epoch - 2 : 2 * epoch]), expected)


def _order(seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(40, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def test_progress_is_that_of_the_epoch_so_far(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 images in batches of 16, 16 and 8, told after each; the rate is too small to move anything."""
    monkeypatch.setattr("normbench.lab.train._PROGRESS_SECONDS", -1.0)
    model, data, told, ends, record = _Seen(), _data(), list[Progress](), list[int](), Record()
    trial = make_trial(drop_last=False, lr=1e-30, epochs=2, seed=3)
    _run(model, trial, record, report=told.append, after_epoch=lambda: ends.append(len(told)))
    logits = model.head(data.images.flatten(1).float() / 255).detach()
    losses = nn.functional.cross_entropy(logits, data.labels, reduction="none")
    right = (logits.argmax(1) == data.labels).double()
    assert ends == [4, 8]
    assert [p.epoch for p in told] == [0.4, 0.8, 1.0, 1, 1.4, 1.8, 2.0, 2]
    assert all((p.epochs, p.phase, p.validation_accuracy) == (2, "train", None) for p in told)
    assert all(0 < p.images_per_second < math.inf for p in told)
    for epoch in (1, 2):
        order = _order(3, epoch)
        for seen, one in zip((16, 32, 40, 40), told[4 * epoch - 4 : 4 * epoch], strict=True):
            assert one.loss == pytest.approx(float(losses[order[:seen]].mean()), rel=1e-5)
            assert one.accuracy == pytest.approx(float(right[order[:seen]].mean()))
    accuracies = [r.value for r in record.curves if r.measure == "train.accuracy"]
    assert accuracies == [pytest.approx(float(right.mean()))] * 2
    assert (record.epoch, record.images, record.engine) == (2, 80, "eager")
    assert told[-1].images_per_second == pytest.approx(80 / record.seconds)


def test_progress_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = _Epoch(2, torch.tensor(24.0), torch.tensor(6.0), seen=12, started=100.0)
    told: list[Progress] = []
    for now, count in ((100.5, 0), (101.0, 0), (101.5, 1), (102.5, 1), (102.75, 2), (103.0, 2)):
        monkeypatch.setattr("normbench.lab.train.time", SimpleNamespace(perf_counter=lambda now=now: now))
        epoch.report_when_due(told.append, 40, 5)
        assert len(told) == count
    assert told[0] == Progress(epoch=1.3, epochs=5, loss=2.0, accuracy=0.5, images_per_second=8.0)


@pytest.mark.parametrize("settings", [{}, {"classes": 3}])
def test_mixed_labels_have_a_share_for_each_class(make_trial: MakeTrial, settings: dict[str, int]) -> None:
    """As many as the labels name where nobody says how many there are; the head has three."""
    record = Record()
    _run(_Seen(), make_trial(epochs=1, mixup=0.4), record, **settings)
    assert record.epoch == 1
    with pytest.raises(RuntimeError):
        _run(_Seen(), make_trial(epochs=1, mixup=0.4), Record(), classes=4)


def test_the_average_takes_in_each_step(make_trial: MakeTrial) -> None:
    seen: list[tuple[nn.Module, int]] = []
    model = _Seen()
    _run(model, make_trial(epochs=2), Record(), average=SimpleNamespace(update=lambda *told: seen.append(told)))
    assert seen == [(model, step) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("done", [0, 1])
def test_a_record_grows_by_what_is_seen_before_and_after_each_epoch(make_trial: MakeTrial, done: int) -> None:
    def also(step: int, epoch: int) -> list[Reading]:
        return [Reading(step=step, epoch=epoch, measure="looked", value=1.0)]

    earlier = Reading(step=0, epoch=0, measure="earlier", value=0.0)
    record = Record(curves=[earlier], epoch=done, seconds=1000.0, images=7)
    _run(_Seen(), make_trial(epochs=2), record, also=also)
    assert record.curves[0] == earlier
    looked = [(r.step, r.epoch) for r in record.curves if r.measure == "looked"]
    assert looked == [(0, 0), (2, 1), (4, 2)][2 * done :]
    assert 1000 < record.seconds < 1100
    assert record.images == 7 + 32 * (2 - done)


def test_a_training_that_was_interrupted_goes_on_with_the_next_epoch(make_trial: MakeTrial) -> None:
    model, data = _Seen(), _data()
    record = Record(epoch=1)
    _run(model, make_trial(seed=3, epochs=3, lr=1.0, schedule="linear"), record)
    for batch, epoch in enumerate((2, 3)):
        shown = torch.cat(model.batches[2 * batch : 2 * batch + 2])
        assert torch.equal(shown, data.images[_order(3, epoch)[:32]].float() / 255)
    assert [r.epoch for r in record.curves if r.measure == "train.loss"] == [2, 3]
    assert [r.step for r in record.curves if r.measure == "lr"] == [4, 6]
    assert [r.step for r in record.curves if r.measure == STEP_LOSS] == [3, 4, 5, 6]
    assert [r.value for r in record.curves if r.measure == "lr"] == pytest.approx([3 / 6, 1 / 6])


def test_what_a_candidate_tells_after_an_epoch(make_trial: MakeTrial) -> None:
    curves = [
        Reading(step=2 * epoch, epoch=epoch, measure=measure, value=value + epoch)
        for epoch in (1, 2)
        for measure, value in (("train.loss", 0.5), ("train.accuracy", 0.1), ("lr", 0.0))
    ]
    curves.append(Reading(step=3, epoch=1.5, measure=STEP_LOSS, value=0.7))
    record = Record(curves=curves, epoch=2, seconds=4.0, images=64, loss=2.5)
    judged = Reading(step=4, epoch=2, measure="validation.accuracy", value=0.6)
    assert validated(make_trial(epochs=5), record, judged) == Progress(
        epoch=2,
        epochs=5,
        loss=2.5,
        accuracy=2.1,
        images_per_second=16.0,
        phase="validation",
        validation_accuracy=0.6,
        readings=tuple(r.model_dump() for r in [*curves[3:], judged]),
        train_seconds=4.0,
    )
    nothing = validated(make_trial(epochs=5), Record(), judged)
    assert (nothing.loss, nothing.accuracy, nothing.images_per_second) == (0.0, 0.0, 0.0)


def test_what_learns_at_a_share_of_the_rate_is_in_groups_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[1].rate_shares = {"weight": 0.1, "bias": 0.5}
    model[0].bias.requires_grad_(False)
    found = parameter_groups(model, TrainSpec(weight_decay=0.2))
    assert [(g["params"], g["weight_decay"], g.get("lr_scale")) for g in found] == [
        ([model[0].weight], 0.2, None),
        ([model[1].bias], 0.0, 0.5),
        ([model[1].weight], 0.2, 0.1),
    ]
    (one,) = parameter_groups(nn.Linear(4, 1, bias=False), TrainSpec(weight_decay=0.2))
    assert one["weight_decay"] == 0.2
    (column,) = parameter_groups(nn.Linear(1, 4, bias=False), TrainSpec(weight_decay=0.2))
    assert column["weight_decay"] == 0, "rows of one value"
