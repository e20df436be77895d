"""Statistics of single layers, in float64: of every method that keeps running ones, found by what its layer holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.norms import ActivationNorm, Site, registry
from normbench.statistics._layers import Pooled, cut, keeping, running, seen
from normbench.statistics.adapted import Adapted
from normbench.statistics.batch import Batch
from normbench.statistics.precise import Precise
from torch import nn

CHANNELS = 8
ACTIVATION = [n for n in registry.names() if issubclass(registry.get(n), ActivationNorm)]
KEEP = [n for n in ACTIVATION if registry.get(n).claims.running_statistics]
#: Their statistics have no moments that batches could be pooled by.
AVERAGED = {"lp-bn": "scale", "robustnorm": "range"}


def layer(text: str) -> nn.Module:
    site = Site(name="here", channels=CHANNELS, eps=1e-5, momentum=0.25, positions=6, activated=True)
    method = registry.parse(text)
    assert isinstance(method, ActivationNorm)
    return method.layer(site).double()


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Of a mean that drifts from one to the next, so that batches differ in it."""
    drawn = torch.randn(count, CHANNELS, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * torch.linspace(0.5, 2, CHANNELS).view(1, -1, 1, 1) + torch.linspace(-1, 1, count).view(-1, 1, 1, 1)


def settled(text: str) -> nn.Module:
    """A layer that has trained on other data, in eval mode."""
    made = layer(text).train()
    for seed in range(4):
        made(1.5 * images(16, seed + 1) + 0.3)
    return made.eval()


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("name", ACTIVATION)
def test_a_layer_says_by_what_it_holds_whether_it_keeps_running_statistics(name: str) -> None:
    assert bool(keeping(layer(name))) == registry.get(name).claims.running_statistics


@pytest.mark.parametrize("name", KEEP)
@pytest.mark.parametrize("size", [7, 40])
def test_precise_statistics_are_those_of_all_images_at_once(name: str, size: int) -> None:
    """In closed form for mean, variance and covariance: what the layer finds in the images as one batch."""
    x, made = images(40), settled(f"{name}[size=5]" if name == "ghost-bn" else name)
    (holder,) = keeping(made)
    Precise(size=size).prepare(made, [holder], x)
    rows = x.transpose(0, 1).flatten(1)
    found = running(holder)
    if name == "powernorm":  # keeps mean squares of positions of length sqrt(C), and moves the product in backward only
        positions = rows * (rows.square().mean(0) + 1e-5).rsqrt()
        assert torch.allclose(found["square"], positions.square().mean(1), rtol=1e-12)
        assert torch.equal(found["product"], running(settled(name))["product"])
        return
    rows = rows[-len(found["mean"]) :]  # ibn-a keeps them of its last channels
    assert torch.allclose(found["mean"], rows.mean(1), rtol=1e-12, atol=1e-14)
    if "var" in found:
        assert torch.allclose(found["var"], rows.var(1, correction=0 if name == "switchnorm" else 1), rtol=1e-12)
    if "std" in found:
        assert torch.allclose(found["std"], (rows.var(1, correction=0) + 1e-5).sqrt(), rtol=1e-12)
    if "covariance" in found:
        assert torch.allclose(found["covariance"][0], torch.cov(rows, correction=0), rtol=1e-10, atol=1e-12)
    if name in AVERAGED:
        parts = [seen(holder, x[chosen])[0] for chosen in cut(torch.arange(40), size)]
        total = sum(count for count, _ in parts)
        mean = sum(count * values[AVERAGED[name]] for count, values in parts) / total
        assert torch.allclose(found[AVERAGED[name]], mean, rtol=1e-12)
    assert found.keys() <= {"mean", "var", "std", "covariance", AVERAGED.get(name, "")}, "pooled in no known way"


def test_precise_passes_each_batch_through_layers_in_training_mode() -> None:
    """The second layer's statistics are of what the first one, normalizing by batches, gives it."""
    model = nn.Sequential(settled("bn"), settled("bn"))
    x = images(12)
    Precise(size=6).prepare(model, keeping(model), x)
    first = copy.deepcopy(model[0]).train()
    between = torch.cat([first(x[:6]), first(x[6:])]).detach().transpose(0, 1).flatten(1)
    assert torch.allclose(model[1].running_mean, between.mean(1), atol=1e-14)  # type: ignore[arg-type]
    assert torch.allclose(model[1].running_var, between.var(1), rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KEEP)
def test_statistics_of_the_batch_are_those_of_train_mode(name: str) -> None:
    made, x = settled(name), images(40)
    before, expected = state(made), copy.deepcopy(made).train()(x)
    with Batch().applied(keeping(made)):
        given = made(x)
    assert torch.equal(given, expected)
    assert same(made, before)
    assert not made.training


@pytest.mark.parametrize("name", KEEP)
@pytest.mark.parametrize("prior", [0, 16])
def test_adapted_statistics_are_a_step_of_training_by_the_weight_of_the_batch(name: str, prior: int) -> None:
    """A momentum of n / (N + n) blends in the same way; the layer then works as in eval mode."""
    made, x = settled(name), images(12)
    naive = copy.deepcopy(made).train()
    (holder,) = keeping(naive)
    holder.momentum = 12 / (prior + 12)  # type: ignore[assignment]
    naive(x)
    before = state(made)
    with Adapted(prior=prior).applied(keeping(made)):
        given = made(x)
    assert torch.allclose(given, naive.eval()(x), rtol=1e-10, atol=1e-12)
    assert same(made, before)


def test_adapted_statistics_of_batch_norm_in_closed_form() -> None:
    made, x = settled("bn"), images(12)
    rows, share = x.transpose(0, 1).flatten(1), 12 / 28
    mean = (1 - share) * made.running_mean + share * rows.mean(1)  # type: ignore[operator]
    var = (1 - share) * made.running_var + share * rows.var(1)  # type: ignore[operator]
    expected = (x - mean.view(1, -1, 1, 1)) / (var + 1e-5).sqrt().view(1, -1, 1, 1)
    with Adapted(prior=16).applied(keeping(made)):
        assert torch.allclose(made(x), expected, rtol=1e-12)


def test_a_layer_that_cuts_its_batch_is_adapted_to_all_of_it() -> None:
    x = images(12)
    with Adapted().applied(keeping(whole := settled("bn"))):
        expected = whole(x)
    ghost = settled("ghost-bn[size=4]")
    ghost.load_state_dict(whole.state_dict())
    with Adapted().applied(keeping(ghost)):
        assert torch.allclose(ghost(x), expected, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), name=st.sampled_from(sorted({*KEEP} - {*AVERAGED})))
def test_parts_pooled_are_what_the_layer_finds_in_the_whole(sizes: Sequence[int], name: str) -> None:
    (made,), x = keeping(settled(name)), images(sum(sizes))
    x = x[:, -next(iter(running(made).values())).numel() :]  # ibn-a keeps them of its last channels
    ((_, expected),) = seen(made, x) if name != "ghost-bn" else seen(keeping(settled("bn"))[0], x)
    pooled, start = Pooled(made), 0
    for size in sizes:
        for count, values in seen(made, x[start : start + size]):
            pooled.add(count, values)
        start += size
    for key, value in pooled.values().items():
        assert torch.allclose(value, expected[key], rtol=1e-9, atol=1e-12), (name, key)


def test_a_layer_that_says_its_divisor_is_believed() -> None:
    class Unbiased(nn.Module):
        correction, momentum = 1, 0.1

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(CHANNELS, dtype=torch.float64))
            self.register_buffer("running_var", torch.ones(CHANNELS, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                rows = x.transpose(0, 1).flatten(1)
                self.running_mean.lerp_(rows.mean(1), self.momentum)  # type: ignore[operator]
                self.running_var.lerp_(rows.var(1), self.momentum)  # type: ignore[operator]
            return x

    made, x = Unbiased().eval(), images(20)
    Precise(size=6).prepare(made, keeping(made), x)
    assert torch.allclose(made.running_var, x.transpose(0, 1).flatten(1).var(1), rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "size", "sizes"), [(10, 3, [3, 3, 4]), (2, 5, [2]), (6, 3, [3, 3]), (5, 1, [1] * 5)])
def test_no_batch_is_smaller_than_asked_for_where_there_are_enough(count: int, size: int, sizes: list[int]) -> None:
    parts: Sequence[Any] = cut(torch.arange(count), size)
    assert [len(p) for p in parts] == sizes
    assert torch.cat(list(parts)).tolist() == list(range(count))
