"""Spheres and ellipsoids: closed forms, deviations that are put in, and every method that has a sphere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from normbench.measures import NormLayer, registry
from normbench.norms import registry as norms
from normbench.norms.base import ActivationNorm, Site
from torch import nn

from tests.measures.conftest import Found, probe_of, read

SPHERE = registry.make("sphere")
IMAGES = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def _network(norm: nn.Module, channels: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3), norm, nn.ReLU(inplace=True))


def _read(model: nn.Sequential, images: torch.Tensor = IMAGES) -> Found:
    return read(SPHERE, probe_of(model, images, norms={"1": NormLayer(module=model[1], axis=1, channels=8)}))


def _value(found: Found, quantity: str) -> float:
    value = found[quantity, "1"]
    assert value is not None
    return value


def _spread(layer: nn.Module) -> None:
    """gamma and beta off the values that they start at."""
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, 8))
        layer.bias.copy_(torch.linspace(0.5, -0.5, 8))


def test_the_closed_form_with_eps_and_the_paper_without() -> None:
    """Pre-activations of standard deviation 0.05, where eps 1e-5 takes a visible share."""
    model = _network(nn.BatchNorm2d(8, eps=1e-5))
    with torch.no_grad():
        x = model[0](IMAGES)
        model[0].weight.mul_(0.05 / x.std((0, 2, 3), correction=0).view(-1, 1, 1, 1))
    found = _read(model)
    share = 1e-5 / (0.05**2 + 1e-5)
    assert _value(found, "sphere.radius-worst") < 1e-6
    assert _value(found, "sphere.paper-worst") == pytest.approx(share, rel=1e-3)
    assert _value(found, "sphere.ellipsoid-worst") == pytest.approx(share, rel=1e-3)
    assert share == pytest.approx(0.003984, rel=1e-3)


def test_with_beta_the_paper_is_off_by_less() -> None:
    layer = nn.BatchNorm2d(8, eps=0.1)
    _spread(layer)
    model = _network(layer)
    x = model[0](IMAGES).detach().double().numpy().transpose(1, 0, 2, 3).reshape(8, -1)
    gamma, beta, m = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy(), x.shape[1]
    exact = m * (gamma**2 * x.var(1) / (x.var(1) + 0.1) + beta**2)
    paper = m * (gamma**2 + beta**2)
    found = _read(model)
    assert _value(found, "sphere.radius-worst") < 1e-6
    assert _value(found, "sphere.paper-mean") == pytest.approx(np.mean(np.abs(exact - paper) / paper), rel=1e-5)
    assert _value(found, "sphere.paper-worst") == pytest.approx(np.max(np.abs(exact - paper) / paper), rel=1e-5)


class OffByOnePercent(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.01 * super().forward(x)


def test_a_layer_that_leaves_the_sphere_is_seen() -> None:
    found = _read(_network(OffByOnePercent(8)))
    assert _value(found, "sphere.radius-mean") == pytest.approx(1.01**2 - 1, rel=1e-3)


def test_the_ellipsoid_is_that_of_the_covariance() -> None:
    layer = nn.BatchNorm2d(8, eps=0.01)
    _spread(layer)
    model = _network(layer)
    x = model[0](IMAGES).detach().double()
    columns = nn.functional.unfold(IMAGES, 3).transpose(1, 2).reshape(-1, 27).double().numpy()
    sigma = np.cov(columns.T, bias=True)
    gamma = layer.weight.detach().double().numpy()
    weight = model[0].weight.detach().double().flatten(1).numpy()
    effective = gamma[:, None] * weight / np.sqrt(x.var((0, 2, 3), correction=0).numpy() + 0.01)[:, None]
    expected = np.abs(np.einsum("ij,jk,ik->i", effective, sigma, effective) / gamma**2 - 1)
    found = _read(model)
    assert _value(found, "sphere.ellipsoid-mean") == pytest.approx(expected.mean(), rel=1e-4)
    assert _value(found, "sphere.ellipsoid-worst") == pytest.approx(expected.max(), rel=1e-4)


def test_only_what_goes_straight_into_the_norm_has_an_ellipsoid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
    probe = probe_of(model, IMAGES, norms={"2": NormLayer(module=model[2], axis=1, channels=8)})
    assert {q for q, _ in read(SPHERE, probe)} == {
        "sphere.radius-mean",
        "sphere.radius-worst",
        "sphere.paper-mean",
        "sphere.paper-worst",
    }


def test_a_sphere_that_is_a_point_has_no_value() -> None:
    layer = nn.BatchNorm2d(8)
    nn.init.zeros_(layer.weight)
    assert not _read(_network(layer))


HAVE_A_SPHERE = ["bn", "ghost-bn", "in", "gn", "ln", "ln-tok", "rms", "frn", "lp-bn"]


@pytest.mark.parametrize("name", HAVE_A_SPHERE)
def test_methods_with_a_sphere_are_on_it_whatever_gamma_and_beta(name: str) -> None:
    method = norms.make(name, {"p": 2} if name == "lp-bn" else {"size": 5} if name == "ghost-bn" else {})
    assert isinstance(method, ActivationNorm)
    layer = method.layer(Site(name="1", channels=8, eps=1e-3, activated=True))
    _spread(layer)
    found = _read(_network(layer))
    assert _value(found, "sphere.radius-worst") < 2e-6
    assert _value(found, "sphere.paper-worst") > 1e-3


@pytest.mark.parametrize("name", ["none", "dyt", "bw-zca", "iternorm", "evonorm-s0", "batch-renorm", "switchnorm"])
def test_methods_that_the_formula_does_not_describe_have_no_values(name: str) -> None:
    method = norms.make(name)
    assert isinstance(method, ActivationNorm)
    assert not _read(_network(method.layer(Site(name="1", channels=8, eps=1e-5))))


def test_instance_norm_has_none_on_one_position() -> None:
    method = norms.make("in")
    assert isinstance(method, ActivationNorm)
    assert not _read(_network(method.layer(Site(name="1", channels=8, eps=1e-5))), IMAGES[..., :3, :3])
