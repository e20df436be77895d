"""Methods that know residual branches: Fixup, ReZero, LayerScale."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import timm
import torch
from normbench.lab.engine.steps import Engine
from normbench.lab.network import Request, construct
from normbench.lab.network.flow import Branch, trace
from normbench.lab.network.possible import problem
from normbench.lab.network.swap import SwapError, kind, swap
from normbench.lab.train import make_optimizer
from normbench.norms import resolve
from normbench.norms.layers.branches import Scaled, Shift
from normbench.spec.trial import TrainSpec
from torch import nn
from torch.nn import functional

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NEEDING = ("fixup", "skipinit", "bn+rezero", "ln+layerscale")


def resnet(norm: str | None, block: str = "resnet18", layers: tuple[int, ...] = (1, 2)) -> Any:
    torch.manual_seed(0)
    kwargs = {"layers": [*layers, *[1] * (4 - len(layers))]}
    model = construct(Request(name=block, width=0.125, image_size=16, classes=5, kwargs=kwargs))
    if norm:
        swap(model, resolve(norm)[1], IMAGES[:2])
    return model


def test_branches_are_the_layers_between_a_parting_and_a_sum() -> None:
    model = resnet(None)
    flow = trace(model, {n: 1 for n, m in model.named_modules() if kind(m)}, IMAGES[:2])
    assert flow.head == "fc"
    assert flow.branches == {
        "layer1.0.bn2": Branch(("layer1.0.conv1", "layer1.0.conv2"), ()),
        "layer2.0.bn2": Branch(("layer2.0.conv1", "layer2.0.conv2"), ("layer2.0.downsample.0",)),
        "layer2.1.bn2": Branch(("layer2.1.conv1", "layer2.1.conv2"), ()),
        "layer3.0.bn2": Branch(("layer3.0.conv1", "layer3.0.conv2"), ("layer3.0.downsample.0",)),
        "layer4.0.bn2": Branch(("layer4.0.conv1", "layer4.0.conv2"), ("layer4.0.downsample.0",)),
    }
    assert flow.branch_ends == set(flow.branches)


def test_gates_are_not_on_the_branch() -> None:
    model: Any = timm.create_model("seresnet18", num_classes=3)
    flow = trace(model, {n: 1 for n, m in model.named_modules() if kind(m)}, torch.zeros(2, 3, 32, 32))
    assert flow.branches["layer1.0.bn2"].layers == ("layer1.0.conv1", "layer1.0.conv2")
    assert len(flow.branches) == 8


@pytest.mark.parametrize(("block", "inner", "power"), [("resnet18", 1, -1 / 2), ("resnet50", 2, -1 / 4)])
def test_fixup_starts_as_the_paper_says(block: str, inner: int, power: float) -> None:
    plain, model = resnet(None, block), resnet("fixup", block)
    branches = 5
    for (name, a), b in zip(
        plain.named_modules(), (model.get_submodule(n) for n, _ in plain.named_modules()), strict=True
    ):
        if not isinstance(a, nn.Conv2d):
            continue
        number = int(name[-1]) if name.rpartition(".")[2].startswith("conv") and "." in name else 0
        if number == inner + 1:
            assert not b.weight.any(), name
        else:
            factor = branches**power if number else 1.0
            assert torch.allclose(b.weight, factor * a.weight, rtol=1e-6), name
    assert not model.fc.weight.any()
    assert not model.fc.bias.any()
    assert torch.equal(model(IMAGES), torch.zeros(4, 5))


def test_fixup_has_the_scalars_of_the_authors_code() -> None:
    """Five a block: a bias in front of each convolution and each activation, and a scale. Two around the blocks. Here
    two more at each shortcut with a convolution. No gamma and no beta.
    """
    plain, model = resnet(None), resnet("fixup")
    scalars = [p for p in model.parameters() if p.ndim == 0]
    assert len(scalars) == 5 * 5 + 2 + 2 * 3
    affine = sum(p.numel() for m in plain.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    before, after = (sum(p.numel() for p in m.parameters()) for m in (plain, model))
    assert after == before - affine + len(scalars)
    scales = [m.scale for m in model.modules() if isinstance(m, Shift) and m.scale is not None]
    assert [s.item() for s in scales] == [1.0] * 5


def test_a_fixup_block_is_its_equation() -> None:
    model = resnet("fixup").double()
    block = model.layer2[1]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.randn(2, block.conv1.in_channels, 5, 5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        inner = functional.conv2d(x + block.conv1.before, block.conv1.weight, padding=1) + block.bn1.shift
        outer = functional.conv2d(inner.relu() + block.conv2.before, block.conv2.weight, padding=1)
        assert torch.allclose(block(x), (outer * block.bn2.scale + block.bn2.shift + x).relu(), atol=1e-12)


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_scalars_and_biases_have_a_tenth_of_the_rate(decay: Any) -> None:
    model = resnet("fixup")
    spec = TrainSpec(lr=0.5, decay=decay, weight_decay=1e-4)
    optimizer = make_optimizer(model, spec)
    engine = Engine(model, optimizer, spec, precision="float32")
    engine.rate(0.5)
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    slow = {n for n, p in model.named_parameters() if p.ndim == 0 or n == "fc.bias"}
    assert set(rates) == set(names.values())
    assert {n for n, rate in rates.items() if rate == 0.5 * 0.1} == slow
    assert {rate for n, rate in rates.items() if n not in slow} == {0.5}
    before = copy.deepcopy(model.state_dict())
    engine.step(IMAGES, torch.arange(4))
    found = model.fc.bias.detach() - before["fc.bias"]
    model.zero_grad()
    twin = resnet("fixup")
    functional.cross_entropy(twin(IMAGES), torch.arange(4)).backward()
    assert torch.allclose(found, -0.05 * twin.fc.bias.grad, atol=1e-7)


def test_other_methods_have_the_groups_that_they_had() -> None:
    optimizer = make_optimizer(resnet("bn"), TrainSpec(lr=0.5, weight_decay=1e-4))
    assert [g["weight_decay"] for g in optimizer.param_groups] == [1e-4, 0.0]
    assert not any("lr_scale" in g for g in optimizer.param_groups)
    assert [{p.ndim for p in g["params"]} for g in optimizer.param_groups] == [{2, 4}, {1}]


def trained(norm: str, steps: int = 3) -> list[torch.Tensor]:
    model = resnet(norm)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = functional.cross_entropy(model(IMAGES), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def test_rezero_without_norms_is_skipinit_to_the_last_bit() -> None:
    assert trained("none+rezero") == trained("skipinit")
    assert trained("bn+rezero") != trained("bn")


@pytest.mark.parametrize(
    ("norm", "start"), [("bn+rezero", 0.0), ("gn+layerscale", 0.1), ("bn+layerscale[start=0.3]", 0.3)]
)
def test_only_ends_of_branches_are_scaled_and_gammas_there_start_at_one(norm: str, start: float) -> None:
    model = resnet(norm).eval()
    scaled = {n: m for n, m in model.named_modules() if isinstance(m, Scaled)}
    assert set(scaled) == {f"layer{i}.bn2" for i in ("1.0", "2.0", "2.1", "3.0", "4.0")}
    for module in scaled.values():
        assert module.factor.shape == (() if "rezero" in norm else module.norm.weight.shape)
        assert torch.equal(module.factor.detach(), torch.full_like(module.factor, start))
        assert module.norm.weight.eq(1).all()
    block = model.layer2[1]
    x = torch.rand(2, block.conv1.in_channels, 4, 4)
    inner = block.conv2(block.bn1(block.conv1(x)).relu())
    assert torch.allclose(block(x), (start * block.bn2.norm(inner) + x).relu(), atol=1e-6)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "vgg11_bn"])
@pytest.mark.parametrize("norm", NEEDING)
def test_networks_without_such_branches_are_refused(norm: str, name: str) -> None:
    kwargs = {"depth": 1} if name.startswith("vit") else {}
    model = construct(Request(name=name, width=0.25 if name == "vgg11_bn" else 1.0, kwargs=kwargs))
    before = copy.deepcopy(model.state_dict())
    method = norm.rpartition("+")[2]
    expected = f"{method}: no residual branch of {type(model).__name__} ends in a normalization layer"
    with pytest.raises(SwapError) as error:
        swap(model, resolve(norm)[1], torch.zeros(2, 3, 32, 32))
    assert str(error.value) == expected
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    flow = trace(model, {n: 1 for n, m in model.named_modules() if kind(m)}, torch.zeros(2, 3, 32, 32))
    assert problem(model, flow, resolve(norm)[1], 2) == expected


def test_layers_that_fixup_starts_at_zero_have_no_direction() -> None:
    model = resnet(None)
    done = swap(model, resolve("wn+fixup")[1], IMAGES[:2])
    zeros = {k.name for k in done.kept if k.reason == "a row of zeros has no direction"}
    assert zeros == {f"layer{i}.conv2" for i in ("1.0", "2.0", "2.1", "3.0", "4.0")}
    assert "layer1.0.conv1" in {w.name for w in done.wrapped}
    assert math.isfinite(float(model(IMAGES).square().sum()))
