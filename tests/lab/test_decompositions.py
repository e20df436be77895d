"""Whitening layers decompose a covariance once a step: the same bits, by fewer decompositions."""

from __future__ import annotations

import pytest
import torch
from normbench.lab.engine import steps
from normbench.lab.engine.decompositions import Decomposed, decomposes
from normbench.lab.engine.steps import Engine
from normbench.lab.train import make_optimizer
from normbench.tensors.operations import Call, Operations
from torch import nn

from tests.conftest import MakeTrial
from tests.lab.engines import Net, some_data


@pytest.mark.parametrize(("norm", "does"), [("bw-pca", True), ("gw", True), ("bw-cd", True), ("iternorm", False)])
def test_which_networks_decompose(norm: str, does: bool) -> None:
    assert decomposes(Net(norm)) is does


@pytest.mark.parametrize(("norm", "layers"), [("bw-zca", 2), ("bw-pca", 2), ("gw", 2)])
def test_once_a_step_with_the_same_bits(
    norm: str, layers: int, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for once in (False, True):
        monkeypatch.setattr(steps, "decomposes", lambda model, once=once: once and decomposes(model))
        model, trial, data, calls = Net(norm), make_trial(norm, lr=0.02), some_data(), list[str]()
        model.train()
        engine = Engine(model, make_optimizer(model, trial.train), trial.train, precision="float32")

        def note(call: Call, calls: list[str] = calls) -> None:
            calls.append(call.name)

        for start in range(0, 64, 16):
            calls.clear()
            with Operations(note):
                engine.step(data.images[start : start + 16] / 255, data.labels[start : start + 16])
            assert calls.count("_linalg_eigh") == layers * (1 if once else 2)
        found.append(torch.cat([t.flatten().double() for t in (*model.parameters(), *model.buffers())]))
    assert torch.equal(*found)


def test_what_was_written_to_is_decomposed_again() -> None:
    matrix = torch.eye(3)
    with Decomposed(unchecked=False):
        first = torch.linalg.eigh(matrix).eigenvalues
        assert torch.linalg.eigh(matrix.view(3, 3)).eigenvalues is first
        matrix.mul_(2)
        assert torch.linalg.eigh(matrix).eigenvalues.tolist() == [2, 2, 2]
        assert torch.linalg.eigh(matrix, UPLO="U").eigenvalues.tolist() == [2, 2, 2]


def test_factors_without_a_question_to_the_host() -> None:
    matrices = torch.stack([torch.eye(2), -torch.eye(2)])
    with Decomposed(unchecked=True):
        factors = torch.linalg.cholesky(matrices)
    assert torch.equal(factors[0], torch.eye(2))
    assert factors[1].isnan().all()
    with Decomposed(unchecked=False), pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.cholesky(matrices)


def test_its_gradient_is_that_of_the_layer() -> None:
    """Of all three matrices, by finite differences, in float64."""
    from normbench.norms.layers.whitening import cholesky, pca, zca

    x = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = (x @ x.mT + torch.diag(torch.arange(1.0, 4))).requires_grad_()
    for function in (zca, pca, cholesky):
        with Decomposed(unchecked=True):
            assert torch.autograd.gradcheck(lambda a, f=function: f((a + a.mT) / 2), covariance)


def test_networks_without_them_run_outside(make_trial: MakeTrial) -> None:
    model, trial = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), make_trial()
    engine = Engine(model, make_optimizer(model, trial.train), trial.train, precision="float32")
    assert not isinstance(engine._decomposed(torch.zeros(1, 1, 8, 8)), Decomposed)
