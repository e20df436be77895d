"""Small networks of several norms, trained once a session on the digits that ship with the package."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from normbench.lab import data as datasets
from normbench.lab.evaluate import clean, pixels
from normbench.lab.train import Tensors
from normbench.norms import registry as norms
from normbench.norms.base import ActivationNorm, Site, WeightNorm
from normbench.spec.trial import DataSpec
from torch import nn
from torch.nn import functional

Trained = Callable[[str], nn.Module]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def _digits() -> tuple[Tensors, Tensors]:
    spec = DataSpec(dataset="digits")
    source = datasets.locate(spec, None, download=False)
    assert source is not None
    loaded = datasets.load(spec, source)
    train, test = (
        Tensors(torch.from_numpy(s.images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(s.labels.copy()))
        for s in (loaded.train, loaded.test)
    )
    return train, test


@cache
def _trained(norm: str) -> nn.Module:
    """Three convolutions with `norm` behind each, about 95 % right on the digits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    method = norms.make(norm)
    for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        if isinstance(method, WeightNorm):
            method.wrap(conv)
        layers += [
            conv,
            *(
                [method.layer(Site(name="norm", channels=outputs, eps=1e-5))]
                if isinstance(method, ActivationNorm)
                else []
            ),
            nn.ReLU(),
        ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 16, 10))
    train, _ = _digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(6):
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(epoch))
        for chosen in order.split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels(train.images[chosen])), train.labels[chosen]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def trained() -> Trained:
    """Gives a copy of its own to everyone who asks for a norm."""
    return lambda norm: copy.deepcopy(_trained(norm))


@pytest.fixture(scope="session")
def test_images() -> Tensors:
    return _digits()[1]


@pytest.fixture(scope="session")
def training_images() -> Tensors:
    return _digits()[0]


def right_of(model: nn.Module, data: Tensors) -> torch.Tensor:
    """Which images are classified correctly."""
    return clean(model, data, 256).correct
