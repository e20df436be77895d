"""The residual networks for CIFAR against the paper: parameters, initialization, shortcuts, the function itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from normbench.lab.network import Request, construct
from normbench.lab.network.swap import swap
from normbench.norms import resolve
from normbench.spec.architectures import CIFAR_RESNETS
from torch import nn
from torch.nn import functional

#: Parameters in millions, as the paper's table 6 prints them.
PRINTED = {"resnet20": "0.27", "resnet32": "0.46", "resnet44": "0.66", "resnet56": "0.85", "resnet110": "1.7"}


def network(name: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return construct(Request(name=name, **changes))  # type: ignore[arg-type]


def tensors(depth: int, stem: int, in_chans: int, classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter, written down from the paper's table of the architecture."""
    yield "conv1.weight", (stem, in_chans, 3, 3)
    yield "bn1.weight", (stem,)
    yield "bn1.bias", (stem,)
    before = stem
    for stage in (1, 2, 3):
        width = stem * 2 ** (stage - 1)
        for block in range((depth - 2) // 6):
            for layer in (1, 2):
                yield f"layer{stage}.{block}.conv{layer}.weight", (width, before, 3, 3)
                yield f"layer{stage}.{block}.bn{layer}.weight", (width,)
                yield f"layer{stage}.{block}.bn{layer}.bias", (width,)
                before = width
    yield "fc.weight", (classes, before)
    yield "fc.bias", (classes,)


@pytest.mark.parametrize("name", CIFAR_RESNETS)
@pytest.mark.parametrize(("width", "in_chans", "classes"), [(1.0, 3, 10), (0.5, 1, 7)])
def test_parameters_one_by_one(name: str, width: float, in_chans: int, classes: int) -> None:
    with torch.device("meta"):
        model = construct(Request(name=name, width=width, channels=in_chans, classes=classes))
    expected = dict(tensors(CIFAR_RESNETS[name], round(16 * width), in_chans, classes))
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == expected
    if width == 1:
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        assert f"{millions:.{len(PRINTED[name]) - 2}f}" == PRINTED[name]
        weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(weighted) == CIFAR_RESNETS[name]


def test_initialization() -> None:
    """Normal with variance 2 / fan-in; no bias, gamma or beta moves anything."""
    model = network("resnet56")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            values = parameter.detach()
            fan_in = values[0].numel()
            scaled = values.flatten() * (fan_in / 2) ** 0.5
            assert abs(float(scaled.mean())) < 4 / len(scaled) ** 0.5, name
            assert float(scaled.var()) == pytest.approx(1, abs=4 * (2 / len(scaled)) ** 0.5), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, float("bn" in name and name.endswith("weight"))))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 55
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}


def plain(model: nn.Module, images: torch.Tensor, blocks: int) -> torch.Tensor:
    """The function of the paper, from the parameters alone, in evaluation."""
    held = model.state_dict()

    def convolved(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        y = functional.conv2d(x, held[f"{conv}.weight"], stride=stride, padding=1)
        mean, variance = (held[f"{norm}.running_{k}"][:, None, None] for k in ("mean", "var"))
        gamma, beta = (held[f"{norm}.{k}"][:, None, None] for k in ("weight", "bias"))
        return (y - mean) / (variance + 1e-5).sqrt() * gamma + beta

    x = convolved(images, "conv1", "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            place = f"layer{stage}.{block}"
            y = convolved(x, f"{place}.conv1", f"{place}.bn1", stride).clamp(min=0)
            y = convolved(y, f"{place}.conv2", f"{place}.bn2")
            y[:, : x.shape[1]] += x[:, :, ::stride, ::stride]  # behind them, option A adds zeros
            x = y.clamp(min=0)
    return x.mean((2, 3)) @ held["fc.weight"].T + held["fc.bias"]


@pytest.mark.parametrize(("side", "width"), [(32, 1.0), (16, 0.5), (9, 0.25)])
def test_the_function_is_the_papers(side: int, width: float) -> None:
    model = network("resnet20", width=width).double()
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.train()(images)  # so that running statistics are not where they start
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
        assert torch.allclose(model.eval()(images), plain(model, images, 3), rtol=1e-10, atol=1e-10)


def test_swaps_find_their_places() -> None:
    """19 norms; every convolution feeds one; nine branches end in one, as `skipinit` has a scalar for each."""
    images = torch.zeros(2, 3, 16, 16)
    done = swap(network("resnet20", width=0.25), resolve("ws+gn")[1], images)
    assert (len(done.replaced), len(done.wrapped)) == (19, 19)
    assert [k.name for k in done.kept] == ["fc"]
    without = swap(network("resnet20", width=0.25), resolve("skipinit")[1], images)
    assert without.parameters_after - without.parameters_before == 9
