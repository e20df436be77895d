"""Internal covariate shift by gradients and by distributions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from normbench.measures import registry
from normbench.measures.wasserstein import distances
from normbench.spec.trial import TrainSpec
from torch import nn
from torch.func import functional_call, grad

from tests.measures._probes import images_of, probe_around, probe_of, read

LR = 0.3


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 8, bias=False),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6, track_running_stats=False),
        nn.Linear(6, 3),
    )


def test_the_gradient_moves_as_definition_2_1_says() -> None:
    """Against torch.func with the weights of each layer's predecessors exchanged by hand."""
    model, images, labels = _network(), images_of(16, 2), torch.arange(16) % 3
    old = {k: v.detach().clone() for k, v in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(functional_call(model, weights, (images,)), labels)

    gradients = grad(loss)(old)
    new = {k: v - LR * gradients[k] for k, v in old.items()}
    found = read(registry.make("shift", {"layers": None}).read(probe_around(model, images, labels, lr=LR)))
    names = list(old)
    for layer in ("2", "4"):
        weight = f"{layer}.weight"
        moved = grad(loss)({k: new[k] if names.index(k) < names.index(weight) else v for k, v in old.items()})[weight]
        distance = float((moved - gradients[weight]).norm())
        assert distance > 1e-3
        assert found["shift.distance", layer] == pytest.approx(distance, rel=1e-4)
        cosine = torch.cosine_similarity(moved.flatten(), gradients[weight].flatten(), dim=0)
        assert found["shift.cosine", layer] == pytest.approx(float(cosine), abs=1e-5)
    assert {layer for _, layer in found} == {"2", "4"}  # nothing is before the first


def test_the_shift_is_proportional_to_a_small_step() -> None:
    probe = probe_around(_network().double(), images_of(16, 2).double(), torch.arange(16) % 3, lr=1e-4)
    once = read(registry.make("shift").read(probe))
    probe = probe_around(_network().double(), images_of(16, 2).double(), torch.arange(16) % 3, lr=1)
    thrice = read(registry.make("shift", {"lr": 3e-4}).read(probe))
    for layer in ("2", "4"):
        assert thrice["shift.distance", layer] == pytest.approx(3 * once["shift.distance", layer], rel=0.01)
        assert once["shift.cosine", layer] == pytest.approx(1, abs=1e-6)


def test_the_update_is_that_of_the_trials_optimizer() -> None:
    sgd, decayed, adam = (
        read(registry.make("shift").read(probe_of("bn", train=TrainSpec(lr=0.01, **spec))))
        for spec in ({}, {"weight_decay": 0.5}, {"optimizer": "adamw"})
    )
    assert sgd.keys() == decayed.keys() == adam.keys()
    assert len({d["shift.distance", "fc"] for d in (sgd, decayed, adam)}) == 3


def test_a_layer_without_gradient_has_no_angle() -> None:
    model = _network()
    nn.init.zeros_(model[4].weight)  # nothing reaches what is before
    found = read(registry.make("shift").read(probe_around(model, images_of(16, 2), torch.arange(16) % 3)))
    assert ("shift.cosine", "2") not in found
    assert ("shift.cosine", "4") in found
    assert found["shift.distance", "2"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(4, 100)), rng.exponential(size=(4, 100)) * rng.uniform(0.1, 3, (4, 1))
    expected = [scipy.stats.wasserstein_distance(x, y) for x, y in zip(a, b, strict=True)]
    assert distances(torch.from_numpy(a), torch.from_numpy(b)).tolist() == pytest.approx(expected)


def test_distances_of_a_shift_and_of_a_scale() -> None:
    z = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shuffled = z[:, torch.randperm(1000, generator=torch.Generator().manual_seed(1))]
    assert distances(z, shuffled + 0.3).tolist() == pytest.approx([0.3] * 3)
    assert distances(z, 1.5 * shuffled).tolist() == pytest.approx((0.5 * z.abs().mean(1)).tolist())


def test_an_update_of_beta_moves_every_output_by_itself() -> None:
    norm, labels = nn.BatchNorm1d(3, track_running_stats=False), torch.arange(16) % 3
    norm.weight.requires_grad_(False)
    images = images_of(16, 1)
    before = norm(images.flatten(1))
    step = LR * (before.softmax(1) - nn.functional.one_hot(labels, 3)).mean(0).abs()
    found = read(
        registry.make("wasserstein").read(probe_around(nn.Sequential(nn.Flatten(), norm), images, labels, lr=LR))
    )
    assert found["wasserstein.distance", "1"] == pytest.approx(float(step.detach().mean()), rel=1e-4)
    assert found["wasserstein.distance", ""] == pytest.approx(float(step.detach().mean()), rel=1e-4)
    assert found["wasserstein.relative", "1"] == pytest.approx(
        float((step / before.std(0, correction=0)).detach().mean()), rel=1e-4
    )


@pytest.mark.parametrize(("dead", "head"), [(3, 1.0), (6, 0.0)])
def test_dead_units_have_no_share_in_the_relative_distance(dead: int, head: float) -> None:
    probe = probe_around(_network(), images_of(16, 2), torch.arange(16) % 3, lr=LR)
    with torch.no_grad():
        probe.model[3].weight[:dead] = 0
        probe.model[4].weight.mul_(head)
    found = read(registry.make("wasserstein").read(probe))
    if dead < 6:
        assert 0 < found["wasserstein.relative", "3"] < 10
    else:
        assert ("wasserstein.relative", "3") not in found
        assert found["wasserstein.distance", "3"] == 0
