"""Probes of real networks on random images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from normbench import norms
from normbench.lab.network.build import build
from normbench.lab.observer import constraints, norm_layers
from normbench.lab.train import make_optimizer
from normbench.measures import NormLayer, Probe, Value
from normbench.norms import ActivationNorm, Site
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from torch import nn

CLASSES = 3


def layer_of(norm: str, channels: int, *, eps: float = 1e-5, positions: int = 1) -> nn.Module:
    """A float64 layer in training mode."""
    method = norms.registry.parse(norm)
    assert isinstance(method, ActivationNorm)
    return (
        method.layer(Site(name="here", channels=channels, eps=eps, momentum=0.5, positions=positions)).double().train()
    )


def images_of(count: int, side: int = 8, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(7))


def probe_of(
    norm: str, *, model: str = "resnet18", batch_size: int = 8, train: TrainSpec | None = None, **kwargs: object
) -> Probe:
    """A small network with `norm`, gammas and betas that differ, and 16 images of 16 x 16."""
    label, components = norms.resolve(norm)
    small = (
        {"width": 0.125, "kwargs": {"layers": [1, 1, 1, 1], **kwargs}} if model == "resnet18" else {"kwargs": kwargs}
    )
    trial = Trial(
        data=DataSpec(dataset="none", image_size=16),
        model=ModelSpec(**{"name": model} | small),
        norm=components,
        norm_label=label,
        batch_size=batch_size,
        seed=0,
        train=train or TrainSpec(lr=0.05),
    )
    network, audit = build(trial, channels=3, image_size=16, classes=CLASSES, mean=[0.5] * 3, std=[0.3] * 3)
    layers = norm_layers(network, audit)
    with torch.no_grad():
        for parameter in (p for norm_layer in layers.values() for p in norm_layer.layer.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    images = images_of(16, 16)
    return Probe(
        model=network.eval(),
        images=images,
        labels=torch.arange(16) % CLASSES,
        optimizer=make_optimizer(network, trial.train),
        batch_size=batch_size,
        norms=layers,
        constraints=constraints(network, audit, components, batch_size),
        test_images=images,
        test_labels=torch.arange(16) % CLASSES,
    )


def probe_around(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, lr: float = 0.1, batch_size: int | None = None
) -> Probe:
    """A probe of a hand-made network; its normalization layers are those that have two vectors, `weight` and `bias`."""
    found = {
        name: m
        for name, m in model.named_modules()
        if isinstance(getattr(m, "weight", None), torch.Tensor) and m.weight.ndim == 1
    }
    return Probe(
        model=model.eval(),
        images=images,
        labels=labels,
        optimizer=torch.optim.SGD(model.parameters(), lr),
        batch_size=batch_size or len(labels),
        norms={name: NormLayer(module=m, axis=1, channels=len(m.weight)) for name, m in found.items()},
        test_images=images,
        test_labels=labels,
    )


def read(values: Iterable[Value]) -> dict[tuple[str, str], float]:
    """By quantity and layer; none is given twice."""
    listed = list(values)
    found = {(v.quantity, v.layer): v.value for v in listed}
    assert len(found) == len(listed)
    return found
