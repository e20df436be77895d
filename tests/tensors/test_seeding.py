"""Random streams: what is measured of a network leaves no trace in those that training draws from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from normbench.lab.network.build import build
from normbench.tensors.seeding import seed_gpu, seeded

from tests.conftest import MakeTrial


@pytest.fixture
def gpu_seeds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the streams of GPUs: (device, seed), or the seed of all of them."""
    asked: list[Any] = []
    here: list[torch.device] = []

    @contextmanager
    def device(wanted: torch.device) -> Any:
        here.append(wanted)
        yield
        here.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: asked.append((here[-1], seed)))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: asked.append(seed))
    return asked


def test_a_seeded_stream_goes_on_as_if_nothing_had_been(gpu_seeds: list[Any]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    gpu_seeds.clear()
    with seeded(5):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with seeded(5):
        assert torch.equal(torch.rand(4), inside)
    assert gpu_seeds == []


@pytest.mark.parametrize("seed", [0, 7])
def test_auditing_a_network_leaves_gpus_at_the_seed_of_the_trial(
    seed: int, gpu_seeds: list[Any], make_trial: MakeTrial
) -> None:
    build(make_trial("bn+noise", seed=seed), channels=1, image_size=8, classes=3, mean=[0.5], std=[0.25])
    assert gpu_seeds == [seed]
    seed_gpu(seed, torch.device("cpu"))
    seed_gpu(seed, torch.device("cuda:1"))
    assert gpu_seeds == [seed, (torch.device("cuda:1"), seed)]
