"""Methods held against their equations, written out plainly in float64, and against values worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm.layers
import torch
from normbench.norms import ActivationNorm, NormSiteError, Site, registry
from normbench.norms.layers.blended import BatchInstanceNorm
from normbench.norms.layers.power import PowerNorm
from torch import nn
from torch.nn import functional

CHANNELS, EPS, MOMENTUM = 6, 1e-3, 0.25
SITE = Site(name="here", channels=CHANNELS, eps=EPS, momentum=MOMENTUM, positions=12)


def layer(text: str, site: Site = SITE, *, spread: bool = True) -> nn.Module:
    """A float64 layer in training; spread: gammas, betas and what else is learned are all different."""
    method = registry.parse(text)
    assert isinstance(method, ActivationNorm)
    made = method.layer(site).double()
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters() if spread else (), 1):
            parameter.copy_(torch.linspace(0.1 * number, 0.8, parameter.numel()))
    return made


@pytest.fixture
def x() -> torch.Tensor:
    drawn = torch.randn(5, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn * torch.linspace(0.5, 2, CHANNELS).view(1, -1, 1, 1) + 0.7


def affine(made: nn.Module, y: torch.Tensor) -> torch.Tensor:
    return y * made.weight.view(1, -1, 1, 1) + made.bias.view(1, -1, 1, 1)


def test_seednorm_at_every_position(x: torch.Tensor) -> None:
    made = layer("seednorm")
    out = made(x)
    for n, h, w in ((0, 0, 0), (2, 1, 3), (4, 2, 2)):
        v = x[n, :, h, w]
        gain = torch.tanh(torch.dot(v, made.direction)) * made.alpha + made.weight
        expected = gain * v / (torch.dot(v, v) / CHANNELS + EPS).sqrt() + made.bias
        assert torch.allclose(out[n, :, h, w], expected, rtol=1e-12)
    assert torch.allclose(layer("seednorm", spread=False)(x), layer("rms", spread=False)(x), rtol=1e-12)


def test_scalenorm_has_one_gain(x: torch.Tensor) -> None:
    made = layer("scalenorm")
    made.bias.data.zero_()
    g = made.weight.detach().mean() * CHANNELS**0.5
    assert torch.allclose(made(x).detach().norm(dim=1), g.expand(5, 3, 4), rtol=1e-12)


def test_the_gain_of_scalenorm_moves_as_one_number(x: torch.Tensor) -> None:
    made, one = layer("scalenorm", spread=False), torch.ones((), dtype=torch.float64, requires_grad=True)
    expected = one * CHANNELS**0.5 * functional.normalize(x, dim=1)
    assert torch.allclose(made(x), expected, rtol=1e-12)
    towards = torch.linspace(-1, 2, x.numel()).view(x.shape)
    (made(x) * towards).sum().backward()
    (expected * towards).sum().backward()
    assert torch.allclose(made.weight.grad, one.grad.expand(CHANNELS), rtol=1e-12)


def test_simplenorm_is_timms(x: torch.Tensor) -> None:
    made, reference = layer("simplenorm"), timm.layers.SimpleNorm2d(CHANNELS, eps=EPS).double()
    made.bias.data.zero_()
    reference.weight.data.copy_(made.weight.data)
    assert torch.allclose(made(x), reference(x), rtol=1e-12)
    with pytest.raises(NormSiteError, match=r"here: one channel has no variance; simplenorm needs two"):
        layer("simplenorm", SITE.__class__(name="here", channels=1, eps=EPS))


def test_mean_only_bn_is_bn_times_the_deviation(x: torch.Tensor) -> None:
    made, bn = layer("mean-only-bn", spread=False), layer("bn", spread=False)
    deviation = (x.var((0, 2, 3), correction=0, keepdim=True) + EPS).sqrt()
    assert torch.allclose(made(x), bn(x) * deviation, atol=1e-12)
    assert torch.equal(made.eval()(x), x - MOMENTUM * x.mean((0, 2, 3), keepdim=True))


def test_robustnorm_by_hand() -> None:
    """A channel from 0 to 32 has the mean 8 and the range 32, whose fifth root is 2."""
    x = torch.tensor([0.0, 0.0, 0.0, 32.0], dtype=torch.float64).view(4, 1)
    made = layer("robustnorm", Site(name="here", channels=1, eps=1e-12, momentum=0.5), spread=False)
    assert made(x).flatten().tolist() == pytest.approx([-4, -4, -4, 12])
    assert (made.running_mean.item(), made.running_range.item()) == (4, 16.5)
    assert made.eval()(x[3:]).item() == pytest.approx((32 - 4) / 16.5**0.2)


def test_ema_bn_trains_on_what_it_evaluates_with(x: torch.Tensor) -> None:
    made = layer("ema-bn")
    mean, var = torch.zeros(CHANNELS, dtype=torch.float64), torch.ones(CHANNELS, dtype=torch.float64)
    for batch in (x, 2 * x - 1, x.flip(0) + 3):
        channels = batch.transpose(0, 1).flatten(1)
        mean = 0.75 * mean + 0.25 * channels.mean(1)
        var = 0.75 * var + 0.25 * channels.var(1)
        expected = (batch - mean.view(1, -1, 1, 1)) / (var + EPS).sqrt().view(1, -1, 1, 1)
        trained = made.train()(batch)
        assert torch.allclose(trained, affine(made, expected), rtol=1e-12)
        assert torch.allclose(made.eval()(batch), trained, rtol=1e-12)


@pytest.mark.parametrize(("ratio", "instance"), [(0.5, 3), (0.4, 2), (0.9, 5)])
def test_ibn_a_splits_the_channels(x: torch.Tensor, ratio: float, instance: int) -> None:
    made, bn, own = layer(f"ibn-a[ratio={ratio}]"), layer("bn"), layer("in")
    for mode in (True, False):
        found = made.train(mode)(x)
        assert torch.allclose(found[:, :instance], own(x)[:, :instance], rtol=1e-10)
        assert torch.allclose(found[:, instance:], bn.train(mode)(x)[:, instance:], rtol=1e-10)


@pytest.mark.parametrize("changes", [{"ends_branch": True}, {"channels": 1}])
def test_ibn_a_leaves_the_ends_of_branches_to_batch_norm(x: torch.Tensor, changes: dict[str, Any]) -> None:
    site = Site(**{"name": "here", "channels": CHANNELS, "eps": EPS} | changes)
    made, bn = layer("ibn-a", site), layer("bn", site)
    given = x[:, : site.channels]
    assert torch.allclose(made(given), bn(given), rtol=1e-10)
    assert torch.allclose(made.eval()(given), bn.eval()(given), rtol=1e-10)


def test_bin_mixes(x: torch.Tensor) -> None:
    made, bn, own = layer("bin"), layer("bn"), layer("in")
    for mode in (True, False):
        for share in (1.0, 0.0, 0.25):
            made.gate.data.fill_(share)
            expected = share * bn.train(mode)(x) + (1 - share) * own(x)
            assert torch.allclose(made.train(mode)(x), expected, rtol=1e-10)
    one_position = x[:, :, :1, :1]
    assert torch.allclose(made.train()(one_position), bn.train()(one_position), rtol=1e-10)


def test_the_gate_of_bin_is_projected_and_returns(x: torch.Tensor) -> None:
    """Gradient descent that is pushed out of the bounds for three steps and back for two, and its projection by
    hand.
    """
    made = layer("bin")
    assert isinstance(made, BatchInstanceNorm)
    made.gate.data.fill_(0.9)
    by_hand = made.gate.detach().clone()
    towards = torch.linspace(-1, 2, x.numel()).view(x.shape)
    outwards = None
    for sign in (1, 1, 1, -1, -1):
        made.gate.grad = None
        (made(x) * towards).sum().backward()
        assert made.gate.grad is not None
        outwards = made.gate.grad.sign() if outwards is None else outwards
        step = 0.3 * sign * outwards
        by_hand = (by_hand + step).clamp(0, 1)
        made.gate.data.add_(step)
        assert torch.equal(copy.deepcopy(made).eval()(x), _with_gate(made, by_hand).eval()(x))
    made(x)
    assert torch.allclose(made.gate, by_hand)
    assert 0 < by_hand.min() < by_hand.max() < 1


def _with_gate(made: BatchInstanceNorm, gate: torch.Tensor) -> BatchInstanceNorm:
    twin = copy.deepcopy(made)
    twin.gate.data.copy_(gate)
    return twin


def test_powernorm_over_five_steps(x: torch.Tensor) -> None:
    """Output, gradient and state of each step, two of warm-up and three behind it, by the algorithm of the paper."""
    made = layer("powernorm[warmup=2]")
    assert isinstance(made, PowerNorm)
    gamma = made.weight.detach().view(1, -1, 1, 1)
    square, product = torch.ones(1, CHANNELS, 1, 1), torch.zeros(1, CHANNELS, 1, 1)
    for step in range(5):
        given = ((1 + 0.3 * step) * x - 0.2 * step).requires_grad_()
        towards = torch.linspace(-1, 2 + step, x.numel()).view(x.shape)
        u = given / (given.square().mean(1, keepdim=True) + EPS).sqrt()
        own = u.square().mean((0, 2, 3), keepdim=True)
        z = u / ((own if step < 2 else square) + EPS).sqrt()
        out = made(given)
        assert torch.allclose(out, affine(made, z), rtol=1e-10)

        g = gamma * towards
        corrected = g - product * z.detach()
        (expected,) = torch.autograd.grad((z * (g if step < 2 else corrected)).sum(), given)
        (out * towards).sum().backward()
        assert given.grad is not None
        assert torch.allclose(given.grad, expected, rtol=1e-10)

        product = product + MOMENTUM * (corrected * z.detach()).mean((0, 2, 3), keepdim=True)
        square = (1 - MOMENTUM) * square + MOMENTUM * own.detach()
        assert torch.allclose(made.running_product, product.flatten(), rtol=1e-10)
        assert torch.allclose(made.running_square, square.flatten(), rtol=1e-10)
    evaluated = made.eval()(x)
    u = x / (x.square().mean(1, keepdim=True) + EPS).sqrt()
    assert torch.allclose(evaluated, affine(made, u / (square + EPS).sqrt()), rtol=1e-10)


def test_an_attack_leaves_the_state_of_powernorm_alone(x: torch.Tensor) -> None:
    made = layer("powernorm[warmup=0]")
    made(x.requires_grad_()).square().sum().backward()
    before = copy.deepcopy(made.state_dict())
    made.eval()(x).square().sum().backward()
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
