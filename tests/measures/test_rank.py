"""Rank of inputs: closed forms, numpy, and convolutions as matrix products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from normbench.measures import registry
from normbench.measures._unfold import positions, products, weight_rows, windows
from normbench.measures.rank import rank_and_energy
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.utils import parametrizations

from tests.measures.conftest import probe_of, read


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("batch", "rank"), [(2, 1), (8, 7), (31, 30), (32, 31), (33, 32), (64, 32)])
def test_a_batch_of_b_random_inputs_has_rank_min_n_b_minus_one(batch: int, rank: int) -> None:
    model = nn.Sequential(nn.Linear(32, 6)).double()
    x = _normal(batch, 32).double()
    found = read(registry.make("rank"), probe_of(model, x))
    assert found["rank.rank", "0"] == rank == np.linalg.matrix_rank((x - x.mean(0)).numpy())
    assert found["rank.kernel", "0"] == 32 - rank
    assert found["rank.fan-in", "0"] == 32
    assert found["rank.positions", "0"] == batch


def test_a_random_weight_has_its_share_of_energy_in_the_range() -> None:
    model = nn.Sequential(nn.Linear(32, 4000))
    with torch.no_grad():
        model[0].weight.copy_(_normal(4000, 32, seed=1))
    found = read(registry.make("rank"), probe_of(model, _normal(8, 32)))
    assert found["rank.energy", "0"] == pytest.approx(7 / 32, rel=0.02)


@pytest.mark.parametrize("batch", [8, 200])
def test_a_weight_in_the_kernel_has_no_energy_and_gives_beta(batch: int) -> None:
    """Once with fewer and once with more positions than the fan-in: both ways to the eigenvectors."""
    x = _normal(batch, 5).double() @ _normal(5, 32, seed=1).double()
    _, _, v = torch.linalg.svd(x - x.mean(0))
    model = nn.Sequential(nn.Linear(32, 3, bias=False), nn.BatchNorm1d(3)).double()
    with torch.no_grad():
        model[0].weight.copy_(v[-3:])
        model[1].bias.fill_(0.7)
    found = read(registry.make("rank"), probe_of(model, x))
    assert found["rank.rank", "0"] == 5
    assert found["rank.energy", "0"] == pytest.approx(0, abs=1e-12)
    assert torch.allclose(model.train()(x), torch.full((batch, 3), 0.7, dtype=torch.float64), atol=1e-6)
    with torch.no_grad():
        model[0].weight.copy_(v[:3])
    assert read(registry.make("rank"), probe_of(model, x))["rank.energy", "0"] == pytest.approx(1)


@pytest.mark.parametrize("m", [20, 60])
def test_a_projector_made_by_numpy_gives_the_same_energy(m: int) -> None:
    x, w = (_normal(m, 12) @ _normal(12, 40, seed=1)).double(), _normal(9, 40, seed=2).double()
    basis = np.linalg.svd((x - x.mean(0)).numpy(), full_matrices=False)[2][: min(12, m - 1)]
    rank, energy = rank_and_energy(x[None], w[None], 1e-10)
    assert rank == len(basis)
    assert energy == pytest.approx(float(((w.numpy() @ basis.T) ** 2).sum() / (w.numpy() ** 2).sum()))


def test_a_constant_input_has_rank_zero_and_zero_weights_no_share() -> None:
    assert rank_and_energy(
        torch.full((1, 50, 6), 0.1, dtype=torch.float64), torch.ones(1, 2, 6, dtype=torch.float64), 1e-10
    ) == (0.0, 0.0)
    assert rank_and_energy(_normal(1, 50, 6).double(), torch.zeros(1, 2, 6, dtype=torch.float64), 1e-10) == (6.0, None)
    assert rank_and_energy(torch.full((1, 50, 6), torch.nan), torch.ones(1, 2, 6), 1e-10) == (0.0, None)


CONVOLUTIONS = {
    "plain": nn.Conv2d(6, 8, 3),
    "padded and strided": nn.Conv2d(6, 8, 3, stride=2, padding=1),
    "one by one": nn.Conv2d(6, 8, 1, stride=2),
    "uneven": nn.Conv2d(6, 8, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1)),
    "groups": nn.Conv2d(6, 8, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(6, 6, 3, padding=1, groups=6),
    "same": nn.Conv2d(6, 8, 3, padding="same", dilation=2),
    "reflecting": nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
    "pads on its own": Conv2dSame(6, 8, 3, stride=2),
    "weight norm": parametrizations.weight_norm(nn.Conv2d(6, 8, 3)),
    "linear": nn.Linear(9, 4),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_times_rows_is_the_output(name: str) -> None:
    module = CONVOLUTIONS[name]
    x = _normal(20, 6, 10, 9)
    with torch.no_grad():
        y = module(x)
        plain = y.movedim(-1 if name == "linear" else 1, 0).flatten(1)
        assert module.bias is not None
        expected = plain - module.bias.unsqueeze(1)
        cut = windows(module, x, y)
        found = (cut @ weight_rows(module).mT).transpose(1, 2).flatten(0, 1)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(products(module, x, y), expected.double(), atol=1e-5)
        assert cut.shape[1] == positions(module, y)
        assert torch.equal(windows(module, x, y, 7), cut[:, ::7])


def test_the_rank_of_a_convolution_is_that_of_its_windows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False))
    x = _normal(2, 4, 6, 6)
    found = read(registry.make("rank"), probe_of(model, x))
    columns = nn.functional.unfold(x, 3).transpose(1, 2).reshape(32, 36)
    assert found["rank.rank", "0"] == np.linalg.matrix_rank((columns - columns.mean(0)).numpy()) == 31
    assert (found["rank.fan-in", "0"], found["rank.positions", "0"]) == (36, 32)


def test_positions_are_sampled_and_large_layers_left_out_as_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    x = _normal(10, 3, 12, 12)
    found = read(registry.make("rank", {"positions": 100, "largest": 30}), probe_of(model, x))
    assert found["rank.positions", "0"] == 100  # every 10th of 1000
    assert found["rank.rank", "0"] == 27
    assert (
        found["rank.positions", "1"] == 128
    )  # every 5th of 640: no fewer than twice the fan-in of 72, less what the stride leaves
    assert ("rank.rank", "1") not in found
