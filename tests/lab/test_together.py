"""Trials whose steps are computed as one: each as alone up to rounding, with an end and an outcome of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from normbench import measures
from normbench.lab import data
from normbench.lab.engine.stack import Stack, Together
from normbench.lab.engine.steps import Engine
from normbench.lab.together import run_together
from normbench.lab.train import make_optimizer
from normbench.lab.trial_run import Context, run
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import TrainSpec, Trial
from torch import nn

from tests.conftest import MakeTrial
from tests.lab.engines import Net, small, some_data
from tests.lab.test_captured import ALL, Counter
from tests.lab.test_checkpoint import numbers

#: Of losses and of curves, as shares: what three epochs make of roundings of float32.
CLOSE = 1e-3
#: Methods that cannot be stacked, with words of the reason: they have a gradient of their own, draw, or move state in
#: the backward pass.
REFUSED = {
    "bw-pca": "setup_context",
    "bw-zca": "setup_context",
    "gw": "setup_context",
    "bn+noise": "random operation",
    "sn+bn+noise": "random operation",
    "powernorm": "running_product is off by",
}

Both = Callable[..., tuple[list[Outcome], list[Outcome]]]


@pytest.fixture
def both(data_dir: Path, make_trial: MakeTrial) -> Both:
    """Outcomes of trials together, and of each alone."""

    def go(trials: list[Trial], engine: str = "eager") -> tuple[list[Outcome], list[Outcome]]:
        source = data.locate(trials[0].data, data_dir, download=False)
        assert source is not None
        context = Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source), engine=engine)
        together = run_together([(trial, context) for trial in trials])
        return together, [run(trial, context, lambda _: None) for trial in trials]

    return go


def seeds(make_trial: MakeTrial, norm: str = "bn", count: int = 3, **settings: Any) -> list[Trial]:
    given = {"epochs": 2, "lr": 0.02, "drop_last": False} | settings
    return [
        make_trial(norm, seed=seed, data={"augment": ("crop", "flip")}, **given).model_copy(update={"attacks": ()})
        for seed in range(count)
    ]


def agree(ours: Outcome, own: Outcome) -> None:
    assert (ours.status, ours.epoch) == (own.status, own.epoch) == (Status.OK, own.epoch), ours.reason
    assert ours.train_loss == pytest.approx(own.train_loss, rel=CLOSE)
    assert len(ours.curves) == len(own.curves)
    for a, b in zip(ours.curves, own.curves, strict=True):
        assert (a.measure, a.layer, a.step) == (b.measure, b.layer, b.step)
        if a.measure != "train.accuracy":
            rounding = 10 if a.measure.startswith("growth") else 1  # it divides by what is nearly zero
            assert a.value == pytest.approx(b.value, rel=rounding * CLOSE, abs=1e-5), a.measure
    assert ours.test_loss == pytest.approx(own.test_loss, rel=CLOSE)
    assert ours.audit == own.audit


def same_bits(ours: Outcome, own: Outcome) -> str:
    """Why it was not together."""
    found, expected = numbers(ours), numbers(own)
    reason = str(found["provenance"].pop("engine_reason"))
    assert expected["provenance"].pop("engine_reason") == ""
    assert found == expected
    assert found["provenance"]["engine"] == "eager"
    return reason


def test_each_is_as_alone(both: Both, make_trial: MakeTrial) -> None:
    """With the last and smaller batch, measures that follow steps, and all that a trial has of its own."""
    trials = seeds(make_trial, clip_grad=1.0, warmup=0.2, ema=0.9)
    trials[1] = trials[1].model_copy(update={"train": trials[1].train.model_copy(update={"lr": 0.01})})
    trials[2] = trials[2].model_copy(
        update={"measures": tuple(measures.registry.make(n, {}).component() for n in ("weight-norm", "growth"))}
    )
    together, alone = both(trials)
    for ours, own in zip(together, alone, strict=True):
        agree(ours, own)
        assert (ours.provenance["engine"], ours.provenance["engine_reason"]) == ("together", "")
        assert own.provenance["engine"] == "eager"
    assert len({o.train_loss for o in together}) == 3
    assert any(r.measure.startswith("growth") for r in together[2].curves)


@pytest.mark.engine
@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_each_has_its_own_update(optimizer: str, both: Both, make_trial: MakeTrial) -> None:
    """`lamb` looks at norms of whole weights, which those of others must not reach."""
    for ours, own in zip(*both(seeds(make_trial, "gn", 2, optimizer=optimizer, lr=0.002, mixup=0.2)), strict=True):
        agree(ours, own)


@pytest.mark.parametrize("norm", ["bn+noise", pytest.param("bw-zca", marks=pytest.mark.engine)])
def test_what_cannot_be_stacked_runs_alone_to_the_last_bit(norm: str, both: Both, make_trial: MakeTrial) -> None:
    together, alone = both(seeds(make_trial, norm, 2))
    for ours, own in zip(together, alone, strict=True):
        assert same_bits(ours, own).startswith("together: RuntimeError: ")


@pytest.mark.engine
def test_adversarial_training_runs_alone(both: Both, make_trial: MakeTrial) -> None:
    from normbench import attacks

    attack = attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 1}).component()
    together, alone = both(seeds(make_trial, "gn", 2, epochs=1, adversarial=attack))
    assert "adversarial" in same_bits(together[0], alone[0])
    assert "adversarial" in same_bits(together[1], alone[1])


@pytest.mark.engine
def test_one_that_diverges_takes_none_with_it(both: Both, make_trial: MakeTrial) -> None:
    trials = seeds(make_trial, "none", epochs=3)
    trials[1] = trials[1].model_copy(update={"train": trials[1].train.model_copy(update={"lr": 1e30})})
    together, alone = both(trials)
    assert [o.status for o in together] == [o.status for o in alone] == [Status.OK, Status.DIVERGED, Status.OK]
    assert together[1].reason == alone[1].reason
    agree(together[0], alone[0])
    agree(together[2], alone[2])


@pytest.mark.engine
def test_what_fails_for_all_is_the_outcome_of_each(
    both: Both, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Together.gradients_all
    calls: list[int] = []

    def fails(self: Together, *given: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:
            raise torch.cuda.OutOfMemoryError("no memory for all of them")
        return steps(self, *given)

    monkeypatch.setattr(Together, "gradients_all", fails)
    together, _ = both(seeds(make_trial, count=2))
    assert [(o.status, o.reason) for o in together] == [(Status.OUT_OF_MEMORY, "no memory for all of them")] * 2


def engines(*models: nn.Module) -> list[Engine]:
    spec = TrainSpec(lr=0.02)
    return [Engine(m.train(), make_optimizer(m, spec), spec, precision="float32") for m in models]


def moved(norm: str, by: int) -> Net:
    model = Net(norm)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.05 * by)
    return model


def batches_of(step: int, count: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    found = some_data()
    parts = [slice(16 * k, 16 * k + 16) for k in ((step + n) % 5 for n in range(count))]
    return [found.images[p] / 255 for p in parts], [found.labels[p] for p in parts]


def follow(norm: str, steps: int) -> None:
    own, ours = (engines(*(moved(norm, k) for k in range(3))) for _ in range(2))
    together = Together(ours, "eager")
    problem = together.prepare_all(*batches_of(0, 3))
    if norm in REFUSED:
        assert REFUSED[norm] in problem
        return
    assert problem == ""
    for step in range(steps):
        images, labels = batches_of(step, 3)
        found = together.gradients_all(images, labels)
        for k in range(3):
            ours[k].update()
            logits, loss = own[k].step(images[k], labels[k])
            assert float(found[k][1]) == pytest.approx(float(loss), rel=CLOSE)
            torch.testing.assert_close(found[k][0], logits, rtol=CLOSE, atol=CLOSE)
    together.stack.apart()
    for a, b in zip(own, ours, strict=True):
        for mine, its in zip(a.model.buffers(), b.model.buffers(), strict=True):
            torch.testing.assert_close(its, mine, rtol=CLOSE, atol=1e-5)
        for parameter in b.model.parameters():
            assert parameter.untyped_storage().nbytes() == parameter.numel() * 4, "still a part of the stack"


@pytest.mark.parametrize("norm", ["batch-renorm", "sn", "fixup", "bw-cd", "gw"])
def test_a_method(norm: str) -> None:
    follow(norm, 4)


@pytest.mark.engine
@pytest.mark.parametrize("norm", ALL)
def test_every_method(norm: str) -> None:
    follow(norm, 20)


class Hidden(nn.Module):
    """Has a weight that torch does not know of by its name."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.get = lambda: weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.get().sum()


class Secret(nn.Module):
    """Counts steps where nobody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.seen.fill_(float(self.steps))
        return x


def test_a_buffer_that_is_replaced() -> None:
    models = [nn.Sequential(Counter(), Net("bn")) for _ in range(2)]
    parts = engines(*models)
    together = Together(parts, "eager")
    assert together.prepare_all(*batches_of(0, 2)) == ""
    for step in range(2):
        together.gradients_all(*batches_of(step, 2))
    models[1][0].count = torch.tensor(7.0)  # type: ignore[assignment]
    together.gradients_all(*batches_of(2, 2))
    together.stack.apart()
    assert [float(m[0].count) for m in models] == [3, 8]  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [Hidden, Secret])
def test_what_is_not_in_the_stack_is_noticed(layer: type[nn.Module]) -> None:
    models = []
    for by in range(2):
        net = moved("gn", by)
        models.append(nn.Sequential(net, Hidden(net.head[-1].weight) if layer is Hidden else Secret()))  # type: ignore[arg-type]
    problem = Together(engines(*models), "eager").prepare_all(*batches_of(0, 2))
    assert problem.startswith(f"together: its {'gradient' if layer is Hidden else 'buffer 1.seen'} is off by ")


@pytest.mark.parametrize("laid", [torch.channels_last, torch.contiguous_format])
def test_weights_lie_in_memory_as_before(laid: torch.memory_format) -> None:
    models = [nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)).to(memory_format=laid) for _ in range(2)]
    before = [p.clone() for model in models for p in model.parameters()]
    stack = Stack(models)
    for part in ("stacked", "apart"):
        for model in models:
            assert model[0].weight.is_contiguous(memory_format=laid), part
        now = [p for model in models for p in model.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True)), part
        stack.apart()


def test_networks_that_differ_are_no_stack() -> None:
    with pytest.raises(RuntimeError, match="equal size"):
        Stack([nn.Linear(2, 3), nn.Linear(3, 3)])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Stack([nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)])


@pytest.mark.engine
def test_compiled() -> None:
    own, ours = (engines(small("gn"), small("gn")) for _ in range(2))
    together = Together(ours, "compile")
    assert together.prepare_all(*batches_of(0, 2)) == ""
    assert (together.used, together.reason) == ("compile", "")
    for step in range(3):
        images, labels = batches_of(step, 2)
        found = together.gradients_all(images, labels)
        for k in range(2):
            ours[k].update()
            assert float(found[k][1]) == pytest.approx(float(own[k].step(images[k], labels[k])[1]), rel=CLOSE)
