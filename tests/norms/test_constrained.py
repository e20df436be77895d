"""Weights on a sphere, and orthonormal weights: against closed forms and independent ways to compute them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from normbench.lab.train import make_optimizer
from normbench.measures.base import Step
from normbench.measures.effective_lr import EffectiveLearningRate
from normbench.norms import WeightNorm, registry
from normbench.norms.layers.manifolds import hold, overlap
from normbench.spec.trial import TrainSpec
from torch import nn
from torch.nn import functional

ORTHONORMAL = ("bjorck", "cayley")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wrapped(text: str, module: nn.Module) -> Any:
    method = registry.parse(text)
    assert isinstance(method, WeightNorm)
    module = module.double()
    with torch.no_grad():
        module.weight.copy_(normal(*module.weight.shape) / 5)
    method.wrap(module)  # type: ignore[arg-type]
    return module


def norms(weight: torch.Tensor, unit: str) -> torch.Tensor:
    flat = weight.detach().flatten(1 if unit == "row" else 0)
    return flat.norm(dim=-1)


@pytest.mark.parametrize("unit", ["row", "tensor"])
def test_a_step_of_sgd_turns_a_weight_on_the_sphere_by_its_closed_form(unit: str) -> None:
    layer, lr = wrapped(f"sphere[unit={unit}]", nn.Linear(7, 5)), 0.3
    optimizer = make_optimizer(layer, TrainSpec(lr=lr, momentum=0.0, weight_decay=0.0))
    raw, before = layer.parametrizations.weight.original, layer.weight.detach().clone()
    loss = (layer(normal(4, 7, seed=1)) * normal(4, 5, seed=2)).sum()
    (gradient,) = torch.autograd.grad(loss, layer.parametrizations.weight.original, retain_graph=True)
    plain = before.clone().requires_grad_()
    (whole,) = torch.autograd.grad(
        (functional.linear(normal(4, 7, seed=1), plain, layer.bias) * normal(4, 5, seed=2)).sum(), plain
    )
    shape = (-1, 1) if unit == "row" else (1, 1)
    radius = norms(before, unit).view(shape)
    along = (whole * before).flatten(0 if unit == "tensor" else 1).sum(-1).view(shape) / radius**2
    assert torch.allclose(gradient, whole - along * before, atol=1e-12)
    loss.backward()
    optimizer.step()
    expected = torch.atan(lr * norms(gradient, unit) / norms(before, unit))
    if unit == "tensor":
        step = Step(
            before={"w": before}, gradient={"w": gradient}, after={"w": raw.detach()}, lr=lr, momentum=0.0,
            weight_decay={"w": 0.0}, optimizer="sgd", invariant=frozenset({"w"}),
        )  # fmt: skip
        found = {v.quantity: v.value for v in EffectiveLearningRate().follow(step) if v.layer}
        assert found["effective-lr.angle"] == pytest.approx(float(expected))
        assert found["effective-lr.rate"] == pytest.approx(lr / float(radius) ** 2)
    else:
        cosines = functional.cosine_similarity(before, raw.detach(), dim=1)
        assert torch.allclose(torch.acos(cosines), expected, atol=1e-6)


@pytest.mark.parametrize("unit", ["row", "tensor"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_stay_on_the_sphere_whatever_the_optimizer_does(unit: str, optimizer: Any) -> None:
    layer = wrapped(f"sphere[unit={unit}]", nn.Conv2d(3, 4, 3))
    made = make_optimizer(layer, TrainSpec(lr=0.1, optimizer=optimizer, weight_decay=0.1))
    raw = layer.parametrizations.weight.original
    start, radius = raw.detach().clone(), norms(layer.weight, unit)
    for seed in range(5):
        made.zero_grad()
        (layer(normal(2, 3, 5, 5, seed=seed)) ** 2).mean().backward()
        made.step()
        assert torch.allclose(norms(raw, unit), radius, rtol=1e-12)
        assert torch.allclose(raw, layer.weight, rtol=1e-12)
    assert not torch.allclose(raw, start, atol=1e-2)
    if unit == "tensor":
        assert not torch.allclose(norms(raw, "row"), norms(start, "row"), rtol=1e-3)


def test_other_networks_have_nothing_to_hold() -> None:
    layer = nn.Linear(3, 2)
    twin = nn.Linear(3, 2)
    twin.load_state_dict(layer.state_dict())
    ours, plain = make_optimizer(layer, TrainSpec(lr=0.1)), torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    hold(layer, ours)
    for optimizer, model in ((ours, layer), (plain, twin)):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(layer.weight, twin.weight)
    assert [sorted(group) for group in ours.param_groups].count(sorted(plain.param_groups[0])) == len(ours.param_groups)


LAYERS = {
    "wide": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "tall": lambda: nn.Conv2d(1, 16, 3),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(4, 6, 3, stride=2, dilation=2),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "pointwise": lambda: nn.Conv2d(5, 4, 1, stride=2),
    "linear": lambda: nn.Linear(6, 9),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ORTHONORMAL)
def test_rows_or_columns_are_orthonormal_and_the_layer_lengthens_nothing(name: str, kind: str) -> None:
    layer = wrapped(name, LAYERS[kind]())
    values = torch.linalg.svdvals(layer.weight.detach().flatten(1)) * math.sqrt(overlap(layer))
    assert torch.allclose(values, torch.ones_like(values), atol=1e-6)
    layer.bias.data.zero_()
    shape = (1, layer.in_channels, 6, 6) if isinstance(layer, nn.Conv2d) else (1, layer.in_features)
    jacobian = torch.autograd.functional.jacobian(layer, normal(*shape))
    operator = jacobian.reshape(-1, math.prod(shape))
    assert float(torch.linalg.matrix_norm(operator, 2)) <= 1 + 1e-6


def test_without_the_bound_of_a_convolution_its_constant_may_be_above_one() -> None:
    layer = wrapped("bjorck[bound=matrix]", nn.Conv2d(1, 1, 3, padding=1, bias=False))
    layer.parametrizations.weight.original.data.fill_(1.0)
    operator = torch.autograd.functional.jacobian(layer, normal(1, 1, 6, 6)).reshape(36, 36)
    assert 2 < float(torch.linalg.matrix_norm(operator, 2)) < 3  # a mean of nine, times three


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "count"), [(3, 1, 1, 9), (3, 2, 1, 4), (3, 2, 2, 9), (1, 2, 1, 1)]
)
def test_overlap_is_how_often_a_value_is_read(kernel: int, stride: int, dilation: int, count: int) -> None:
    conv = nn.Conv2d(1, 1, kernel, stride=stride, dilation=dilation, bias=False)
    conv.weight.data.fill_(1.0)
    read = torch.autograd.functional.jacobian(lambda x: conv(x).sum(), torch.ones(1, 1, 15, 15))
    assert overlap(conv) == count == int(read.max())


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6)])
def test_bjorck_gives_the_nearest_orthonormal_matrix(shape: tuple[int, int]) -> None:
    """The polar factor, from the singular vectors."""
    layer = wrapped("bjorck", nn.Linear(shape[1], shape[0]))
    u, _, v = torch.linalg.svd(layer.parametrizations.weight.original.detach(), full_matrices=False)
    assert torch.allclose(layer.weight, u @ v, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6)])
def test_cayley_is_the_transform_of_a_large_skew_matrix(shape: tuple[int, int]) -> None:
    """The first columns of `(I - S) (I + S)^-1` with `S = [[X - X^T, -Y^T], [Y, 0]]`."""
    layer = wrapped("cayley", nn.Linear(shape[1], shape[0]))
    raw, alpha = layer.parametrizations.weight.original.detach(), layer.parametrizations.weight[0].alpha.detach()
    assert float(alpha) == pytest.approx(float(raw.norm()))
    tall = raw.mT if shape[0] < shape[1] else raw
    rows, columns = tall.shape
    skew = torch.zeros(rows, rows, dtype=torch.float64)
    skew[:, :columns] += tall
    skew[:columns] -= tall.mT
    one = torch.eye(rows, dtype=torch.float64)
    expected = ((one - skew) @ torch.linalg.inv(one + skew))[:, :columns]
    assert torch.allclose(layer.weight, expected.mT if shape[0] < shape[1] else expected, atol=1e-10)
