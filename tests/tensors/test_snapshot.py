"""What is saved of a network and an optimizer, and put back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from normbench.lab.train import make_optimizer
from normbench.norms import WeightNorm, registry
from normbench.spec.trial import OPTIMIZERS, TrainSpec
from normbench.tensors.snapshot import Snapshot, same_buffers, unchanging, undisturbed
from torch import nn
from torch.nn.utils import parametrizations

from tests.lab.engines import Net


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("begun", [False, True])
def test_steps_are_taken_back_in_place(name: str, begun: bool) -> None:
    """Same values in the same tensors; what the optimizer has made since is where it starts, and then goes on as one
    that has made nothing.
    """
    spec = TrainSpec(optimizer=name, lr=0.05)  # type: ignore[arg-type]
    models = [Net("sn", dropout=0.5).train() for _ in range(2)]
    optimizers = [make_optimizer(model, spec) for model in models]
    images, labels = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3

    def places(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
        state = [v for values in optimizer.state.values() for v in values.values() if isinstance(v, torch.Tensor)]
        return [id(t) for t in (*model.parameters(), *model.buffers(), *state)]

    torch.manual_seed(3)
    if begun:
        for pair in zip(models, optimizers, strict=True):
            torch.manual_seed(3)
            _step(*pair, images, labels)
    before, kept, random = places(models[0], optimizers[0]), Snapshot(models[0], optimizers[0]), torch.get_rng_state()
    values = [t.detach().clone() for t in models[0].state_dict().values()]
    moved = [_step(models[0], optimizers[0], images, labels) for _ in range(3)]
    assert len(set(moved)) == 3
    kept.rewind()
    assert places(models[0], optimizers[0])[: len(before)] == before
    assert all(torch.equal(a, b) for a, b in zip(models[0].state_dict().values(), values, strict=True))
    losses = []
    for pair in zip(models, optimizers, strict=True):
        torch.set_rng_state(random)
        losses.append([_step(*pair, images, labels) for _ in range(3)])
    assert losses[0] == losses[1] == moved
    if not begun:
        kept.restore()
        assert not optimizers[0].state


def test_buffers_that_are_replaced_are_put_back() -> None:
    conv = nn.Conv2d(3, 4, 3)
    method = registry.parse("sn")
    assert isinstance(method, WeightNorm)
    method.wrap(conv)
    before = {k: v.clone() for k, v in conv.state_dict().items()}
    with undisturbed(conv):
        conv.train()(torch.rand(2, 3, 8, 8))
        assert not all(torch.equal(v, before[k]) for k, v in conv.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in conv.state_dict().items())


def test_whatever_a_measure_does_is_undone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).train()
    parametrizations.spectral_norm(model[0])
    model[1].eval()  # modes differ
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    grads = [p.grad.clone() if p.grad is not None else None for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    stream = torch.get_rng_state()
    with undisturbed(model):
        assert not model[0].training
        model.train()
        model(torch.rand(2, 3, 8, 8)).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(()))
                parameter.requires_grad_(False)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(
        a is None if b is None else torch.equal(a, b)
        for a, b in zip([p.grad for p in model.parameters()], grads, strict=True)
    )
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("begun", [False, True])
def test_an_optimizer_goes_on_as_if_nothing_had_been(name: Any, begun: bool) -> None:
    """What a measure does with it (steps, other rates) leaves no trace, and tensors stay where they are."""
    models = [Net("bn").train() for _ in range(2)]
    optimizers = [make_optimizer(model, TrainSpec(optimizer=name, lr=0.01, weight_decay=0.1)) for model in models]
    images, labels = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
    if begun:
        for pair in zip(models, optimizers, strict=True):
            _step(*pair, images, labels)
    held = [v for values in optimizers[0].state.values() for v in values.values() if isinstance(v, torch.Tensor)]
    with undisturbed(models[0], optimizers[0]):
        for group in optimizers[0].param_groups:
            group["lr"] = 1.0
        for _ in range(2):
            _step(models[0].train(), optimizers[0], images, labels)
    now = [v for values in optimizers[0].state.values() for v in values.values() if isinstance(v, torch.Tensor)]
    assert [id(t) for t in now] == [id(t) for t in held]
    losses = [[_step(*pair, images, labels) for _ in range(3)] for pair in zip(models, optimizers, strict=True)]
    assert losses[0] == losses[1]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs here")
@pytest.mark.cuda
def test_only_the_networks_own_devices_are_touched() -> None:
    with undisturbed(nn.Linear(1, 1).to("cuda:0")):
        torch.rand(1, device="cuda:1")
        stream = torch.cuda.get_rng_state(1)
    assert torch.equal(stream, torch.cuda.get_rng_state(1))


@pytest.mark.parametrize("raises", [False, True])
def test_modes_and_gradients_come_back_one_by_one(raises: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    with contextlib.suppress(KeyError), unchanging(model):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        if raises:
            raise KeyError
    assert [m.training for m in model.modules()] == [True, True, False]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]


def test_values_of_a_replaced_buffer_are_not_lost_within_the_same_buffers() -> None:
    conv = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    before = {k: (b, b.clone()) for k, b in conv.named_buffers()}
    with same_buffers(conv.train()):
        conv(torch.rand(2, 3, 8, 8))
        assert not all(torch.equal(b, before[k][1]) for k, b in conv.named_buffers())
    assert all(b is before[k][0] and torch.equal(b, before[k][1]) for k, b in conv.named_buffers())
