"""Pruning by similarity: what is merged, and what merging does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from normbench.measures import Probe, registry
from normbench.measures.pruning import Merge, merged, merges
from torch import nn

from tests.measures._probes import images_of, layer_of, probe_around, probe_of, read

SHARES = (0.25, 0.5)


def test_the_closest_two_are_merged_first() -> None:
    gamma, beta = torch.tensor([1.0, 2.0, 1.1, 5.0]), torch.tensor([0.0, 0.5, 0.05, 0.0])
    found = merges(gamma, beta)
    assert [(m.channel, m.into) for m in found] == [(2, 0), (1, 0), (3, 0)]
    assert [m.distance for m in found] == pytest.approx([0.1, 1.0, 4.0])  # the larger of both differences


def test_of_channels_that_are_the_same_the_first_stays() -> None:
    assert merges(torch.ones(3), torch.zeros(3)) == [Merge(1, 0, 0.0), Merge(2, 0, 0.0)]


def test_who_stood_for_others_hands_them_on() -> None:
    layer = layer_of("none", 4)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    with merged([layer], [[Merge(3, 2, 0.0), Merge(2, 0, 1.0)]]):
        assert torch.equal(layer(x), x[:, [0, 1, 0, 0]])
    assert torch.equal(layer(x), x)


def _twins(norm: str = "bn") -> nn.Sequential:
    """Filters 4 to 7 are 0 to 3, scaled, with their gamma and beta; the network makes something of each channel."""
    torch.manual_seed(0)
    layer = layer_of(norm, 8, eps=1e-12, positions=36).float()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), layer, nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    with torch.no_grad():
        model[0].weight[4:] = 2.5 * model[0].weight[:4]
        for parameter in (layer.weight, layer.bias):
            parameter[:4] = torch.randn(4)
            parameter[4:] = parameter[:4]
        model.train()
        for _ in range(100):
            model(images_of(16))
    return model.eval()


@pytest.mark.parametrize("norm", ["bn", "in"])
def test_a_scaled_duplicate_can_be_folded_into_its_twin(norm: str) -> None:
    model, images = _twins(norm), images_of(16)
    before = model(images)
    order = merges(model[1].weight.detach(), model[1].bias.detach())[:4]
    assert {(m.channel, m.into, m.distance) for m in order} == {(i + 4, i, 0.0) for i in range(4)}
    with merged([model[1]], [order]):
        assert torch.allclose(model(images), before, atol=1e-5)
    folded = nn.Linear(144, 3)  # the smaller network: each twin's weights added to those of the one that stays
    with torch.no_grad():
        folded.weight.copy_(model[4].weight.view(3, 2, 144).sum(1))
        folded.bias.copy_(model[4].bias)
    assert torch.allclose(folded(model[2](model[1](model[0](images)))[:, :4].flatten(1)), before, atol=1e-5)


def _twin_probe() -> Probe:
    model = _twins()
    images = images_of(200)
    return replace(probe_around(model, images, model(images).argmax(1)), batch_size=8)  # it is always right


def test_merging_twins_costs_nothing_while_other_choices_do() -> None:
    measure = registry.make("pruning", {"shares": SHARES, "images": 200})
    probe = _twin_probe()
    found = read(measure.read(probe))
    assert {layer for _, layer in found} == {""}
    value = {quantity.removeprefix("pruning."): v for (quantity, _), v in found.items()}
    assert value["unpruned"] == value["similarity@0.25"] == value["similarity@0.5"] == 1
    assert value["tau@0.25"] == value["tau@0.5"] == 0
    assert value["random@0.5"] < 1
    assert value["gamma@0.5"] < 1
    assert read(measure.read(probe)) == found  # the draws are seeded, and nothing stays changed


def test_channels_with_gamma_zero_can_go() -> None:
    probe = _twin_probe()
    with torch.no_grad():
        probe.model[1].weight[[1, 6]] = 0
        labels = probe.model(probe.images).argmax(1)
    found = read(registry.make("pruning", {"shares": SHARES}).read(replace(probe, test_labels=labels)))
    assert found["pruning.gamma@0.25", ""] == found["pruning.unpruned", ""] == 1
    assert found["pruning.gamma@0.5", ""] < 1


def test_larger_shares_need_a_larger_tau() -> None:
    found = read(registry.make("pruning").read(probe_of("bn")))
    taus = [found[f"pruning.tau@{share:g}", ""] for share in (0.125, 0.25, 0.5)]
    assert 0 < taus[0] < taus[1] < taus[2]


def test_there_is_nothing_to_say_without_differences_or_test_images() -> None:
    probe, measure = _twin_probe(), registry.make("pruning")
    assert list(measure.read(probe))
    assert not list(measure.read(replace(probe, test_images=None, test_labels=None)))
    assert not list(measure.read(replace(probe, norms={})))
    nn.init.ones_(probe.model[1].weight)
    nn.init.zeros_(probe.model[1].bias)
    assert not list(measure.read(probe))


def test_no_layer_loses_its_last_channel() -> None:
    found = read(registry.make("pruning", {"shares": [0.99]}).read(_twin_probe()))
    assert found["pruning.tau@0.99", ""] > 0
