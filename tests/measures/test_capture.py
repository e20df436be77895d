"""Inputs and outputs of layers as they were when the layer ran."""

from __future__ import annotations

import pytest
import torch
from normbench.measures import Probe
from normbench.measures._capture import flows, watching
from torch import nn


def _probe() -> Probe:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(108, 2)
    ).eval()
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Probe(
        model=model,
        images=images,
        labels=torch.zeros(5, dtype=torch.int64),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        batch_size=4,
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_flow_is_what_the_layer_saw_though_the_next_one_writes_into_it(training: bool) -> None:
    probe = _probe()
    model = probe.model
    found = flows(probe, {"conv": model[0], "norm": model[1]}, training=training)
    assert torch.equal(found["conv"].input, probe.images[:4])
    assert torch.equal(found["conv"].output, found["norm"].input)
    assert (found["norm"].output < 0).any()  # the activation behind it works in place
    mean = found["norm"].output.mean((0, 2, 3))
    assert torch.allclose(mean, torch.zeros(3), atol=1e-6) is training
    assert not model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_are_gone_after_a_failure_too() -> None:
    probe = _probe()
    with pytest.raises(RuntimeError), watching({"linear": probe.model[4]}, lambda *_: None):
        probe.model(torch.rand(2, 1, 5, 5))
    assert not any(m._forward_hooks for m in probe.model.modules())


def test_images_may_be_others_than_the_batch() -> None:
    probe = _probe()
    assert flows(probe, {"conv": probe.model[0]}, training=False, images=probe.images)["conv"].input.shape[0] == 5
