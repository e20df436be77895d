"""gamma and beta against the statistics of a norm's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from normbench.lab.network import Request, construct
from normbench.lab.network.swap import swap
from normbench.measures import NormLayer, registry
from normbench.measures.norm_input import chosen, running_statistics
from normbench.norms import registry as norms
from normbench.norms import resolve
from normbench.norms.base import ActivationNorm, Site
from normbench.spec.plugins import PluginError
from torch import nn

from tests.measures.conftest import probe_of, read

IMAGES = torch.rand(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=1e-8), nn.ReLU(inplace=True))


def _places(model: nn.Sequential) -> dict[str, NormLayer]:
    return {"1": NormLayer(module=model[1], axis=1, channels=5)}


def test_batch_norm_with_the_parameters_of_its_input_changes_nothing_and_has_distance_zero() -> None:
    model = _network()
    x = model[0](IMAGES).detach()
    with torch.no_grad():
        model[1].weight.copy_(x.std((0, 2, 3), correction=0))
        model[1].bias.copy_(x.mean((0, 2, 3)))
    assert torch.allclose(model[1](x), x, atol=1e-5)
    found = read(registry.make("norm-input"), probe_of(model, IMAGES, norms=_places(model)))
    for what in ("variance", "deviation", "shift"):
        for kind in ("mean", "median", "max"):
            assert found[f"norm-input.{what}-{kind}", "1"] == pytest.approx(0, abs=1e-6)


def test_agrees_with_numpy() -> None:
    model = _network()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0]))
        model[1].bias.copy_(torch.arange(5.0))
    x = model[0](IMAGES[:8]).detach().double().numpy().transpose(1, 0, 2, 3).reshape(5, -1)
    gamma, beta = np.array([-1, 0, 0.5, 1, 2]), np.arange(5.0)
    gaps = {
        "variance": np.abs(gamma**2 - x.var(1)),
        "deviation": np.abs(gamma - x.std(1)),
        "shift": np.abs(beta - x.mean(1)),
    }
    running = {"variance": np.abs(gamma**2 - 1), "deviation": np.abs(gamma - 1), "shift": np.abs(beta)}
    found = read(registry.make("norm-input"), probe_of(model, IMAGES, norms=_places(model), batch_size=8))
    assert len(found) == 18
    for prefix, expected in (("", gaps), ("running-", running)):  # the running statistics are those before the look
        for what, gap in expected.items():
            for kind, value in (("mean", gap.mean()), ("median", np.median(gap)), ("max", gap.max())):
                assert found[f"norm-input.{prefix}{what}-{kind}", "1"] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_channels_may_be_the_last_axis() -> None:
    tokens = torch.rand(4, 7, 5, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.LayerNorm(5))
    found = read(
        registry.make("norm-input"),
        probe_of(model, tokens, norms={"0": NormLayer(module=model[0], axis=-1, channels=5)}),
    )
    expected = (1 - tokens.double().flatten(0, 1).var(0, correction=0)).abs().mean()
    assert found["norm-input.variance-mean", "0"] == pytest.approx(float(expected))
    assert ("norm-input.running-variance-mean", "0") not in found


@pytest.mark.parametrize("name", ["bn", "batch-renorm", "bw-zca", "switchnorm"])
def test_running_statistics_settle_at_those_of_the_data(name: str) -> None:
    method = norms.make(name)
    assert isinstance(method, ActivationNorm)
    layer = method.layer(Site(name="x", channels=16, eps=1e-5)).train()
    x = (
        torch.randn(64, 16, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 17).view(1, 16, 1, 1)
        + 3
    )
    for _ in range(150):
        layer(x)
    kept = running_statistics(layer)
    assert kept is not None
    assert torch.allclose(kept[0], x.mean((0, 2, 3)).double(), rtol=1e-3)
    assert torch.allclose(kept[1], x.var((0, 2, 3)).double(), rtol=2e-3)


@pytest.mark.parametrize(
    ("architecture", "first"),
    [
        ("resnet18", "layer1.0.bn1"),
        ("resnet50d", "layer1.0.bn1"),
        ("resnetv2_18", "stages.0.blocks.0.norm1"),
        ("convnext_atto", "stages.0.blocks.0.norm"),
        ("regnetx_002", "s1.b1.conv1.bn"),
        ("densenet121", "features.denseblock1.denselayer1.norm1"),
        ("mobilenetv2_050", "blocks.0.0.bn1"),
        ("vgg11_bn", "features.1"),
    ],
)
def test_the_first_norm_of_the_first_block_is_found(architecture: str, first: str) -> None:
    network = construct(Request(name=architecture, stem="native", width=1.0, channels=3, image_size=64, classes=10))
    audit = swap(network, resolve("ln")[1], torch.zeros(2, 3, 64, 64))
    places = {
        r.name: NormLayer(module=network.get_submodule(r.name), axis=r.axis, channels=r.channels)
        for r in audit.replaced
    }
    assert list(chosen("first", places)) == [first]
    assert list(chosen("all", places)) == list(places)


def test_a_place_without_a_norm_is_an_error_with_the_nearest() -> None:
    places = {"layer1.0.bn1": NormLayer(module=nn.BatchNorm2d(3), axis=1, channels=3)}
    with pytest.raises(PluginError, match=r"no normalization layer at 'layer1.0.bn2'; did you mean 'layer1.0.bn1'"):
        chosen("layer1.0.bn2", places)
    assert not chosen("first", {})
