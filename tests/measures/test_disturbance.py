"""Stochastic normalization disturbance: the tutorial's findings, closed forms, and zero where examples do not meet."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from normbench.measures import registry
from normbench.measures.disturbance import disturbance
from torch import nn

from tests.measures._probes import images_of, layer_of, probe_around, probe_of, read

CHANNELS = 16
SIZES = (32, 64, 256)
#: Expected for d = 16 and batches of 32, 64, 256, from an independent computation.
EXPECTED = {"bw-cd": (2.05, 1.44, 0.74), "bw-zca": (1.71, 1.24, 0.56), "bn": (0.83, 0.58, 0.30)}


@cache
def snd(norm: str, batch: int, *, isotropic: bool = False) -> float:
    """Of Gaussian vectors; unless isotropic, with standard deviations from 1 to 4 along axes that are not those of the
    channels.
    """
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4096, CHANNELS, generator=generator, dtype=torch.float64)
    if not isotropic:
        axes = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=generator, dtype=torch.float64)).Q
        data = (data * torch.linspace(1, 4, CHANNELS, dtype=torch.float64)) @ axes
    with torch.no_grad():
        return disturbance(layer_of(norm, CHANNELS), data, batch=batch, samples=50, examples=8, seed=0).snd


@pytest.mark.parametrize("batch", SIZES)
def test_pca_disturbs_more_than_cd_more_than_zca_more_than_bn(batch: int) -> None:
    pca, cd, zca, bn = (snd(norm, batch) for norm in ("bw-pca", "bw-cd", "bw-zca", "bn"))
    assert pca > 1.2 * cd > 1.2 * 1.2 * zca > 1.2 * 1.2 * 1.2 * bn > 0


@pytest.mark.parametrize("norm", ["bw-pca", "bw-cd", "bw-zca", "bn", "iternorm"])
def test_larger_batches_disturb_less(norm: str) -> None:
    small, middle, large = (snd(norm, batch) for batch in SIZES)
    assert small > middle > large > 0


@pytest.mark.parametrize("norm", EXPECTED)
def test_the_numbers_are_the_expected_ones(norm: str) -> None:
    for batch, expected in zip(SIZES, EXPECTED[norm], strict=True):
        assert snd(norm, batch, isotropic=True) == pytest.approx(expected, rel=0.12)


def test_pca_without_principal_axes_is_as_disturbed_as_can_be_whatever_the_batch() -> None:
    bound = math.sqrt(CHANNELS)  # outputs of unit variance on random axes
    assert all(0.95 * bound < snd("bw-pca", batch, isotropic=True) < 1.02 * bound for batch in SIZES)


@pytest.mark.parametrize("batch", SIZES)
def test_batch_norm_has_its_closed_form(batch: int) -> None:
    """To first order in 1 / B a coordinate z of x has variance (1 + z^2 / 2) / B, from the mean and from the deviation:
    in the mean 1.5 / B.
    """
    assert snd("bn", batch, isotropic=True) == pytest.approx(math.sqrt(1.5 * CHANNELS / batch), rel=0.08)


def test_small_groups_disturb_less() -> None:
    assert snd("bw-zca[group=4]", 32) < 0.8 * snd("bw-zca", 32)


@pytest.mark.parametrize("norm", ["none", "ln", "in", "gn", "ln-tok", "wn", "ws+gn", "sn"])
def test_nothing_disturbs_where_examples_do_not_meet(norm: str) -> None:
    probe = probe_of(norm, drop_rate=0.5)  # drop-out is not what is measured
    found = read(registry.make("disturbance").read(probe))
    assert len({layer for _, layer in found}) == 9
    assert all(value == 0 for (quantity, _), value in found.items() if quantity == "disturbance.snd")
    assert {value for (quantity, _), value in found.items() if quantity == "disturbance.relative"} == {0.0}


def test_a_transformer_with_batch_norm_is_disturbed_and_with_layer_norm_is_not() -> None:
    size = {"patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 2}
    bn, ln = (
        read(registry.make("disturbance", {"layers": None}).read(probe_of(n, model="vit_tiny_patch16_224", **size)))
        for n in ("bn", "ln-tok")
    )
    assert bn.keys() == ln.keys()
    assert len(bn) == 2 * 6  # two norms a block, the last one, the logits
    assert all(value > 0 for value in bn.values())
    assert not any(ln.values())


def test_a_network_that_is_one_layer_has_the_disturbance_of_that_layer() -> None:
    norm = nn.BatchNorm1d(12)
    nn.init.uniform_(norm.weight, 0.5, 2)
    probe = probe_around(
        nn.Sequential(nn.Flatten(), norm), images_of(16, 2), torch.zeros(16, dtype=torch.int64), batch_size=8
    )
    measure = registry.make("disturbance")
    once = read(measure.read(probe))
    assert once["disturbance.snd", ""] == pytest.approx(once["disturbance.snd", "1"])
    assert 0 < once["disturbance.relative", "1"] < 1
    with torch.no_grad():
        norm.weight.mul_(3)
    thrice = read(measure.read(probe))
    assert thrice["disturbance.snd", "1"] == pytest.approx(3 * once["disturbance.snd", "1"])
    assert thrice["disturbance.relative", "1"] == pytest.approx(once["disturbance.relative", "1"])
    assert (
        read(registry.make("disturbance", {"batch": 16}).read(probe))["disturbance.snd", "1"]
        < thrice["disturbance.snd", "1"]
    )


def test_what_a_layer_remembers_is_not_disturbance() -> None:
    """All examples are one and the same; a running mean that moved from forward to forward would show in batch
    renormalization.
    """
    norm = layer_of("batch-renorm", 12).float()
    norm.num_batches_tracked.fill_(10**6)
    images = images_of(1, 2).expand(16, -1, -1, -1)
    probe = probe_around(nn.Sequential(nn.Flatten(), norm), images, torch.zeros(16, dtype=torch.int64), batch_size=8)
    found = read(registry.make("disturbance").read(probe))
    assert found["disturbance.snd", "1"] == found["disturbance.snd", ""] == 0


def test_a_batch_of_one_has_no_disturbance() -> None:
    assert not list(registry.make("disturbance").read(probe_of("ln", batch_size=1)))


def test_outputs_that_are_zero_have_no_relative_disturbance() -> None:
    probe = probe_around(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), images_of(16, 2), torch.zeros(16, dtype=torch.int64)
    )
    nn.init.zeros_(probe.model[1].weight)
    assert read(registry.make("disturbance").read(probe)) == {
        ("disturbance.snd", "1"): 0.0,
        ("disturbance.snd", ""): 0.0,
    }
