"""Running statistics of every method that keeps some: what one batch moves them to, by its equation, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from normbench.norms import ActivationNorm, Site, registry
from normbench.norms.layers.whitening import pca
from torch import nn

CHANNELS, MOMENTUM = 8, 0.25
ACTIVATION = [n for n in registry.names() if issubclass(registry.get(n), ActivationNorm)]


def layer(name: str, **changes: Any) -> nn.Module:
    site = Site(
        **{"name": "here", "channels": CHANNELS, "eps": 1e-5, "momentum": MOMENTUM, "positions": 6, "activated": True}
        | changes
    )
    method = registry.parse(name)
    assert isinstance(method, ActivationNorm)
    return method.layer(site).double()


@pytest.fixture
def x() -> torch.Tensor:
    """Five examples, so that biased and unbiased variance differ by a thirtieth."""
    drawn = torch.randn(5, CHANNELS, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn * torch.linspace(0.5, 2, CHANNELS).view(1, -1, 1, 1) + 0.7


@pytest.mark.parametrize("name", [n for n in ACTIVATION if hasattr(layer(n), "running_var")])
def test_the_running_variance_is_that_of_the_population(name: str, x: torch.Tensor) -> None:
    """As torch does it (and the published EvoNorm-B0): the variance of the batch times n / (n - 1).

    Switchable normalization averages the variance of the batch itself, as its authors do. Ghost batch norm averages
    those of its chunks, of which this batch is one.
    """
    made = layer(name).train()
    made(x)
    correction = 0 if name == "switchnorm" else 1
    expected = 1 + MOMENTUM * (x.transpose(0, 1).flatten(1).var(1, correction=correction) - 1)
    assert torch.allclose(made.running_var, expected, rtol=1e-12), name


@pytest.mark.parametrize("name", [n for n in ACTIVATION if hasattr(layer(n), "running_mean")])
def test_the_running_mean_moves_by_the_momentum(name: str, x: torch.Tensor) -> None:
    made = layer(name).train()
    made(x)
    expected = MOMENTUM * x.transpose(0, 1).flatten(1).mean(1)
    assert torch.allclose(made.running_mean, expected, rtol=1e-10, atol=1e-14), name


@pytest.mark.parametrize("gap", [1e-5, 1e-4, 1e-2])
def test_close_eigenvalues_keep_their_gradient(gap: float) -> None:
    """The gradient of PCA whitening against finite differences, where two eigenvalues are apart by `gap`."""
    generator = torch.Generator().manual_seed(1)  # no eigenvector has two largest components, whose sign would jump
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    values = torch.tensor([1.0, 2.0, 2.0 + 2 * gap], dtype=torch.float64)
    covariance = (basis * values) @ basis.T
    towards = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    direction = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    direction = direction + direction.T
    a = covariance.clone().requires_grad_()
    (pca(a) * towards).sum().backward()
    assert a.grad is not None
    step = 1e-4 * gap
    ahead, behind = ((pca(covariance + s * direction) * towards).sum() for s in (step, -step))
    assert float((a.grad * direction).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-3)
