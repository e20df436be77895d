"""Measures: right values, and no trace on the trial."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from normbench.lab import data
from normbench.lab.observer import Observer
from normbench.lab.trial_run import Context, run
from normbench.measures import EndMeasure, Measure, Probe, Step, StepMeasure, Value, registry
from normbench.spec.outcome import Outcome, Reading
from normbench.spec.trial import TrainSpec
from torch import nn
from torch.nn.utils import parametrizations

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import CHEAP
from tests.matrix import sample


def _probe(model: nn.Module) -> Probe:
    return Probe(
        model=model,
        images=torch.rand(4, 3, 8, 8),
        labels=torch.zeros(4, dtype=torch.int64),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
    )


def _look(measure: Measure, probe: Probe, epoch: int = 0, epochs: int = 1) -> list[Reading]:
    return Observer([measure], probe, TrainSpec(epochs=epochs)).look(0, epoch)


def _read(model: nn.Module) -> dict[tuple[str, str], float]:
    readings = _look(registry.make("weight-norm"), _probe(model))
    return {(r.measure, r.layer): r.value for r in readings if r.value is not None}


def test_weight_norms_of_set_values() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(2, 2))
    nn.init.constant_(model[0].weight, 0.5)
    nn.init.constant_(model[3].weight, 2.0)
    found = _read(model)
    assert found == {
        ("weight-norm.raw", "0"): pytest.approx(0.5 * math.sqrt(48)),
        ("weight-norm.effective", "0"): pytest.approx(0.5 * math.sqrt(48)),
        ("weight-norm.raw", "3"): pytest.approx(4.0),
        ("weight-norm.effective", "3"): pytest.approx(4.0),
        ("weight-norm.raw", ""): pytest.approx(math.sqrt(12 + 16)),
        ("weight-norm.effective", ""): pytest.approx(math.sqrt(12 + 16)),
        ("weight-norm.raw-other", ""): pytest.approx(math.sqrt(12 + 16)),
        ("weight-norm.effective-other", ""): pytest.approx(math.sqrt(12 + 16)),
    }


def test_raw_is_what_is_trained_and_effective_what_is_applied() -> None:
    layer = parametrizations.weight_norm(nn.Conv2d(3, 4, 2))
    with torch.no_grad():
        layer.parametrizations.weight.original1.mul_(10)  # v
        layer.parametrizations.weight.original0.fill_(3.0)  # g
    found = _read(nn.Sequential(layer))
    assert found["weight-norm.effective", "0"] == pytest.approx(3.0 * math.sqrt(4), rel=1e-6)
    assert found["weight-norm.raw", "0"] == pytest.approx(
        float(layer.parametrizations.weight.original1.detach().norm()), rel=1e-6
    )


def test_a_measure_is_taken_before_training_every_so_often_and_at_the_end() -> None:
    measure, probe = registry.make("weight-norm", {"every": 3}), _probe(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    assert [epoch for epoch in range(9) if _look(measure, probe, epoch, 8)] == [0, 3, 6, 8]


class Late(EndMeasure):
    name: ClassVar[str] = "late"
    cost: ClassVar[str] = "none"

    def read(self, probe: Probe) -> Iterable[Value]:
        yield Value("late.one", "", 1.0)


class Faulty(StepMeasure):
    name: ClassVar[str] = "weight-norm"
    cost: ClassVar[str] = "none"

    def read(self, probe: Probe) -> Iterable[Value]:
        yield Value("weight-norm.first", "", 1.0)
        probe.model.train()
        raise NotImplementedError("derivative for\nsuch a layer is not implemented")

    def follow(self, step: Step) -> Iterable[Value]:
        yield Value("weight-norm.step", "", 1.0)
        raise ValueError("second value")


def test_a_measure_of_the_end_is_taken_at_the_end() -> None:
    probe = _probe(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    assert [epoch for epoch in range(9) if _look(Late(), probe, epoch, 8)] == [8]
    assert [epoch for epoch in range(9) if _look(Late(every=3), probe, epoch, 8)] == [0, 3, 6, 8]


def test_a_measure_that_fails_costs_its_own_readings_alone(
    make_trial: MakeTrial, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._loaded, "weight-norm", Faulty)
    outcome = _outcome(make_trial, data_dir, ("weight-norm",), "bn")
    assert outcome.provenance["measure_errors"] == {
        "weight-norm": "epoch 0: NotImplementedError: derivative for such a layer is not implemented"
    }
    assert {(r.epoch, r.measure) for r in outcome.curves if r.measure.startswith("weight")} == {
        *((epoch, "weight-norm.first") for epoch in range(3)),
        *((epoch, "weight-norm.step") for epoch in (1.0, 2.0)),
    }
    assert outcome.measure_seconds["weight-norm"] > 0
    assert _rest(outcome) == _rest(_without(make_trial, data_dir, "bn"))


#: Outcomes of trials without measures, by method: each is what all measures are held against.
WITHOUT: dict[str, Outcome] = {}


def _without(make_trial: MakeTrial, data_dir: Path, norm: str) -> Outcome:
    return WITHOUT.get(norm) or WITHOUT.setdefault(norm, _outcome(make_trial, data_dir, (), norm))


def _outcome(make_trial: MakeTrial, data_dir: Path, measures: tuple[str, ...], norm: str) -> Outcome:
    trial = make_trial(norm, epochs=2, data={"augment": ("flip",)}).model_copy(
        update={"measures": tuple(registry.make(m, CHEAP.get(m)).component() for m in measures)}
    )
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source)), lambda _: None)
    assert outcome.status == "ok", outcome.log
    return outcome


def _rest(outcome: Outcome) -> dict[str, Any]:
    """What a trial tells but for the readings of its measures."""
    return {
        "curves": [r for r in outcome.curves if not r.measure.startswith(tuple(registry.names()))],
        "test_loss": outcome.test_loss,
        "clean_outcomes": outcome.clean_outcomes,
        "attacks": [a.outcomes for a in outcome.attacks],
    }


@pytest.mark.parametrize("norm", sample(["bn", "sn"], ["bn"]))
def test_a_trial_is_bit_identical_with_and_without_measures(make_trial: MakeTrial, data_dir: Path, norm: str) -> None:
    """All of them look at one trial; where that leaves a trace, each looks at one of its own, to tell which it is."""
    names, without = registry.names(), _without(make_trial, data_dir, norm)
    together = _outcome(make_trial, data_dir, tuple(names), norm)
    if _rest(together) != _rest(without):
        alone = [n for n in names if _rest(_outcome(make_trial, data_dir, (n,), norm)) != _rest(without)]
        pytest.fail(f"a trace on the trial of {', '.join(alone) or 'several measures together'}")
    assert _rest(without)["curves"] == list(without.curves)
    assert together.provenance["measure_errors"] == {}
    found = {name for name in names if any(r.measure.startswith(name) for r in together.curves)}
    assert norm == "sn" or found == set(names)  # some have nothing to say where no activation is normalized
