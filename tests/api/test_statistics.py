"""`evaluate(..., statistics=...)`: the numbers of a trial by other statistics, and what it refuses."""

from __future__ import annotations

from typing import Any

import normbench as nb
import numpy as np
import pytest
import torch
from normbench.lab.restated import KEEPS_NONE, restated
from normbench.lab.train import Tensors
from normbench.statistics import registry
from torch import nn


def network(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


LABELS = torch.arange(40) % 5
ASKED = ["running", "precise", {"batch": {"size": 8}}, registry.make("adapted", {"prior": 4})]


def test_numbers_are_those_of_a_trial(images: torch.Tensor) -> None:
    model = network(nn.BatchNorm2d(8))
    found = nb.evaluate(model, images, LABELS, "noise", seed=3, statistics=ASKED, training=images.numpy()[:32])
    wanted = [registry.parse(t) for t in ("precise", "batch[size=8]", "adapted[prior=4]")]
    methods, test = [nb.attacks()["noise"]()], Tensors(images, LABELS)
    expected = restated(model, wanted, methods, test, images[:32], seed=3, batch_size=500, data_dir=None).results
    drop = {"seconds"}
    assert [a.model_dump(exclude=drop) for a in found.attacks[1:]] == [a.model_dump(exclude=drop) for a in expected]
    assert found.attacks[0].attack == "noise"
    assert "clean under precise: " in str(found)
    assert "noise under batch[size=8] noise 0.0625: " in str(found)
    assert found.table().num_rows == 7
    assert found.absent == {}


def test_a_network_without_running_statistics_says_so(images: torch.Tensor) -> None:
    found = nb.evaluate(network(nn.GroupNorm(2, 8)), images, LABELS, statistics="batch")
    assert found.attacks == ()
    assert found.absent == {"batch": KEEPS_NONE}
    assert f"nothing under batch: {KEEPS_NONE}" in str(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"statistics": "precise"}, "precise is computed over training images: give them as training="),
        ({"statistics": "precise", "training": np.zeros((4, 3, 9, 9), np.float32)}, "(3, 8, 8), found (3, 9, 9)"),
        ({"statistics": "precise", "training": torch.rand(4, 3, 8, 8) * 9}, "training: pixels from "),
        ({"statistics": "preceise"}, "did you mean 'precise'?"),
        ({"statistics": ["batch[size=0]"]}, "statistics 'batch': size"),
        ({"statistics": [8]}, 'statistics: expected texts such as "batch[size=32]"'),
    ],
)
def test_what_is_refused(images: torch.Tensor, given: dict[str, Any], said: str) -> None:
    with pytest.raises(nb.BenchError) as error:
        nb.evaluate(network(nn.BatchNorm2d(8)), images, LABELS, **given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
