"""Partial condition numbers: closed forms, and moments computed by hand."""

from __future__ import annotations

import pytest
import torch
from normbench.measures import registry
from normbench.measures.conditioning import partial_condition
from torch import nn

from tests.measures._probes import images_of, layer_of, probe_around, probe_of, read


def _random_moment(d: int, seed: int) -> torch.Tensor:
    x = torch.randn(d, 2 * d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x @ x.mT


def test_of_ten_to_one() -> None:
    moment = torch.diag(torch.arange(10.0, 0.0, -1, dtype=torch.float64))
    assert partial_condition(moment, (0.5, 0.8, 1.0, 0.1, 0.7)) == pytest.approx([10 / 6, 10 / 3, 10, 1, 10 / 4])


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_a_factor_and_a_rotation_change_nothing(share: float) -> None:
    moment = _random_moment(12, 0)
    rotation = torch.linalg.qr(_random_moment(12, 1)).Q
    assert partial_condition(7 * rotation @ moment @ rotation.mT, (share,)) == pytest.approx(
        partial_condition(moment, (share,))
    )


def test_of_a_kronecker_product_it_is_the_product() -> None:
    a, b = _random_moment(4, 0), _random_moment(5, 1)
    (of_a,), (of_b,), (of_both,) = (partial_condition(m, (1.0,)) for m in (a, b, torch.kron(a, b)))
    assert of_a is not None
    assert of_b is not None
    assert of_both == pytest.approx(of_a * of_b)


def test_a_singular_moment_has_none_beyond_its_rank() -> None:
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small, large = partial_condition(x @ x.mT, (0.4, 0.5))
    assert small is not None
    assert large is None
    assert partial_condition(torch.zeros(3, 3), (0.5,)) == [None]
    assert partial_condition(torch.full((3, 3), torch.nan), (0.5, 0.8)) == [None, None]


def test_input_and_gradient_of_a_linear_layer() -> None:
    images, labels = images_of(16, 2), torch.arange(16) % 3
    layer = nn.Linear(12, 3)
    probe = probe_around(nn.Sequential(nn.Flatten(), layer), images, labels, batch_size=8)
    found = read(registry.make("conditioning", {"shares": [0.5, 0.6, 1.0]}).read(probe))
    x = images.flatten(1).double()
    gradient = (layer(images.flatten(1)).softmax(1) - nn.functional.one_hot(labels, 3)).detach().double()
    inputs, gradients = torch.linalg.eigvalsh(x.mT @ x).flip(0), torch.linalg.eigvalsh(gradient.mT @ gradient).flip(0)
    assert found["conditioning.input@0.5", "1"] == pytest.approx(float(inputs[0] / inputs[5]), rel=1e-6)
    assert found["conditioning.input@1", "1"] == pytest.approx(float(inputs[0] / inputs[11]), rel=1e-6)
    assert found["conditioning.gradient@0.6", "1"] == pytest.approx(float(gradients[0] / gradients[1]), rel=1e-5)


def test_a_convolution_behind_whitening_has_a_perfect_input() -> None:
    torch.manual_seed(0)
    whitening = layer_of("bw-zca", 8).float()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), whitening, nn.Conv2d(8, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)
    )
    probe = probe_around(model, images_of(32), torch.arange(32) % 3, batch_size=32)
    found = read(registry.make("conditioning").read(probe))
    assert found["conditioning.input@0.8", "2"] == pytest.approx(1, abs=0.02)  # eps
    assert found["conditioning.input@0.8", "0"] > 1.2
    assert all(value >= 1 for value in found.values())


def test_dead_channels_have_no_value() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    with torch.no_grad():
        model[1].bias[:4] = -100  # half of the channels never pass the activation
    found = read(registry.make("conditioning").read(probe_around(model, images_of(16), torch.arange(16) % 3)))
    assert ("conditioning.input@0.5", "3") in found
    assert ("conditioning.input@0.8", "3") not in found
    assert ("conditioning.gradient@0.8", "3") in found
    assert ("conditioning.gradient@0.5", "0") in found
    assert ("conditioning.gradient@0.8", "0") not in found


def test_a_few_layers_from_the_first_to_the_last() -> None:
    found = read(registry.make("conditioning", {"layers": 3, "batches": 1}).read(probe_of("bn")))
    layers = list(dict.fromkeys(layer for _, layer in found))
    assert sorted(layers) == sorted({"conv1", "fc"} | set(layers))
    assert len(layers) == 3
