"""Captured steps against the eager ones, on a GPU; and what of the capture needs none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from normbench import measures
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe
from torch import nn

from tests.conftest import MakeTrial
from tests.lab.engines import Net, losses_of, some_data

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]
#: Losses of the first ten steps: other kernels, TF32 convolutions, and what training makes of that.
CLOSE = 2e-2


def _run(model: nn.Module, trial: Any, engine: Any, *measured: str, precision: str = "float32") -> Record:
    data = some_data()
    data = Tensors(data.images.cuda(), data.labels.cuda())
    model = model.cuda()
    optimizer, record = make_optimizer(model, trial.train), Record()
    found = [measures.registry.make(name, {}) for name in measured]
    observer = Observer(
        found,
        Probe(model=model, images=data.images[:8].float() / 255, labels=data.labels[:8], optimizer=optimizer),
        trial.train,
    )
    torch.manual_seed(1)
    train(
        model,
        trial,
        data,
        precision=precision,
        optimizer=optimizer,
        observer=observer,
        report=lambda _: None,
        record=record,
        engine=engine,
    )
    assert not observer.errors
    return record


def _agrees(trial: Any, norm: str, *measured: str, precision: str = "float32", engine: str = "graph") -> Record:
    eager, captured = Net(norm), Net(norm)
    expected = _run(eager, trial, "eager", *measured, precision=precision)
    found = _run(captured, trial, engine, *measured, precision=precision)
    assert (found.engine, found.engine_reason) == (engine, "")
    assert losses_of(found) == pytest.approx(losses_of(expected), rel=CLOSE)
    for (name, a), b in zip(captured.named_buffers(), eager.buffers(), strict=True):
        if not a.is_floating_point():
            assert torch.equal(a, b), name
    assert found.loss == pytest.approx(expected.loss, rel=0.1)
    return found


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("norm", ["bn", "gn", "ws+gn", "sn", "wn+bn"])
    @pytest.mark.parametrize("engine", ["graph", "compile"])
    def test_steps_are_the_eager_ones(self, norm: str, engine: str, make_trial: MakeTrial) -> None:
        _agrees(
            make_trial(norm, epochs=4, lr=0.02, drop_last=False, warmup=0.2, data={"augment": ("flip", "crop")}),
            norm,
            engine=engine,
        )

    @pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "muon"])
    def test_every_kind_of_optimizer(self, name: str, make_trial: MakeTrial) -> None:
        _agrees(make_trial("bn", epochs=4, lr=0.002, optimizer=name, weight_decay=1e-3), "bn")

    @pytest.mark.parametrize(
        "how", [{"clip_grad": 0.1}, {"agc": 0.05}, {"mixup": 0.4, "cutmix": 1.0, "nesterov": True}]
    )
    def test_clipping_and_mixing(self, how: Any, make_trial: MakeTrial) -> None:
        _agrees(make_trial("bn", epochs=2, lr=0.02, **how), "bn")

    def test_bfloat16(self, make_trial: MakeTrial) -> None:
        _agrees(make_trial("gn", epochs=2, lr=0.02), "gn", precision="bf16")

    def test_measures_between_and_within_epochs(self, make_trial: MakeTrial) -> None:
        """They put copies of the optimizer's state in the place of what the graph writes to, and their steps run
        outside of it.
        """
        found = _agrees(make_trial("bn", epochs=4, lr=0.02), "bn", "weight-norm", "growth", "hessian")
        assert any(r.measure.startswith("growth") for r in found.curves)

    def test_noise_is_drawn_anew_by_every_replay(self, make_trial: MakeTrial) -> None:
        model = Net("bn+noise")
        found = _run(model, make_trial("bn+noise", epochs=2, lr=1e-9, batch_size=90), "graph")
        assert found.engine == "graph"
        assert len(set(losses_of(found))) == len(losses_of(found)) == 2

    def test_adversarial_training_stays_outside(self, make_trial: MakeTrial) -> None:
        from normbench import attacks

        attack = attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 2}).component()
        found = _run(Net("bn"), make_trial("bn", epochs=1, adversarial=attack), "graph")
        assert found.engine == "compile"
        assert found.engine_reason.startswith("graph: ")
