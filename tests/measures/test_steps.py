"""Steps that measures follow: when, what they are shown, and what becomes of several values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from normbench.lab import data
from normbench.lab.network.build import build
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe, Step, StepMeasure, Value
from normbench.spec.outcome import Reading

from tests.conftest import MakeTrial


class Recorder(StepMeasure):
    """Keeps every step that it is shown, numbered."""

    name: ClassVar[str] = "recorder"
    summary: ClassVar[str] = "for tests"
    source: ClassVar[str] = "none"
    cost: ClassVar[str] = "none"
    seen: ClassVar[list[Step]] = []

    def follow(self, step: Step) -> Iterable[Value]:
        type(self).seen.append(step)
        number = len(type(self).seen)
        return [Value("recorder.number", "", number), Value("recorder.last", "", number)]

    def summarize(self, quantity: str, values: Sequence[float]) -> float:
        return values[-1] if quantity == "recorder.last" else super().summarize(quantity, values)


def _train(make_trial: MakeTrial, data_dir: Path, measure: Recorder, **spec: Any) -> list[Reading]:
    Recorder.seen.clear()
    trial = make_trial("bn", **spec)
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    dataset = data.load(trial.data, source, data.fingerprint(source))
    model, _ = build(
        trial, channels=dataset.channels, image_size=dataset.image_size, classes=3, mean=dataset.mean, std=dataset.std
    )
    training = Tensors(
        torch.from_numpy(dataset.train.images.transpose(0, 3, 1, 2).copy()), torch.tensor(dataset.train.labels)
    )
    optimizer = make_optimizer(model, trial.train)
    probe = Probe(
        model=model,
        images=training.images[:4] / 255,
        labels=training.labels[:4],
        optimizer=optimizer,
        invariant=frozenset({"layer1.0.conv1"}),
    )
    record = Record()
    observer = Observer([measure], probe, trial.train)
    train(
        model,
        trial,
        training,
        precision="float32",
        optimizer=optimizer,
        observer=observer,
        report=lambda _: None,
        record=record,
    )
    return [r for r in record.curves if r.measure.startswith("recorder")]


def test_steps_are_followed_at_the_start_of_the_first_and_of_due_epochs(make_trial: MakeTrial, data_dir: Path) -> None:
    found = _train(
        make_trial, data_dir, Recorder(every=2, steps=4), epochs=5
    )  # 6 steps an epoch; epochs 1, 2, 4 and the last
    numbers = [r for r in found if r.measure == "recorder.number"]
    assert [(r.step, round(r.epoch * 6)) for r in numbers] == [(4, 4), (10, 10), (22, 22), (28, 28)]
    assert [r.value for r in numbers] == [2.5, 6.5, 10.5, 14.5]
    assert [r.value for r in found if r.measure == "recorder.last"] == [4, 8, 12, 16]


def test_a_measure_that_wants_more_steps_than_an_epoch_has_gets_them_all(make_trial: MakeTrial, data_dir: Path) -> None:
    found = _train(make_trial, data_dir, Recorder(steps=100), epochs=2)
    assert [(r.step, r.value) for r in found if r.measure == "recorder.number"] == [(6, 3.5), (12, 9.5)]


@pytest.mark.parametrize(("momentum", "clip"), [(0.0, None), (0.9, None), (0.0, 0.01)])
def test_a_step_is_shown_as_it_happened(
    make_trial: MakeTrial, data_dir: Path, momentum: float, clip: float | None
) -> None:
    spec = {"momentum": momentum, "weight_decay": 0.01, "schedule": "linear", "clip_grad": clip}
    _train(make_trial, data_dir, Recorder(steps=6), epochs=1, lr=0.1, **spec)
    assert [s.lr for s in Recorder.seen] == pytest.approx([0.1 * (1 - k / 6) for k in range(6)])
    first = Recorder.seen[0]
    assert (first.momentum, first.optimizer, first.invariant) == (momentum, "sgd", {"layer1.0.conv1"})
    assert {"conv1", "layer1.0.conv1", "fc"} <= set(first.before) == set(first.after) == set(first.gradient)
    for layer, before in first.before.items():
        assert first.weight_decay[layer] == 0.01
        expected = before - first.lr * (
            first.gradient[layer] + 0.01 * before
        )  # momentum starts with the first gradient
        uncut = clip is None or not first.gradient[layer].any()
        assert torch.allclose(first.after[layer], expected, atol=1e-7) is uncut
    second = Recorder.seen[1]
    for layer, before in second.before.items():
        assert torch.equal(before, first.after[layer])
        if second.gradient[layer].norm() > 1e-3:  # residual branches have only just begun
            plain = before - second.lr * (second.gradient[layer] + 0.01 * before)
            assert torch.allclose(second.after[layer], plain, atol=1e-7) is (momentum == 0 and clip is None)
