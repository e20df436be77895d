"""Smoothness along the gradient, in closed form on quadratics and against plain autograd."""

from __future__ import annotations

import pytest
import torch
from normbench.measures.smoothness import Smoothness
from normbench.tensors.snapshot import undisturbed
from torch import nn

from tests.measures.curves import IMAGES, LABELS, Quadratic, network, probe, symmetric


def values(measure: Smoothness, model: nn.Module) -> dict[str, float]:
    return {v.quantity.removeprefix("smoothness."): v.value for v in measure.read(probe(model))}


def test_a_quadratic_in_closed_form() -> None:
    """g = A w; L(w - s g) = w'A w/2 - s g'g + s^2 g'A g/2; the gradient changes by s A g."""
    matrix, w = symmetric(20) + 12 * torch.eye(20, dtype=torch.float64), torch.linspace(-1, 2, 20, dtype=torch.float64)
    found = {
        v.quantity.removeprefix("smoothness."): v.value
        for v in Smoothness(step_sizes=(0.01, 0.03, 0.3)).of(Quadratic(matrix, w))
    }
    g = matrix @ w
    losses = [float(w @ matrix @ w / 2 - s * g @ g + s**2 * g @ matrix @ g / 2) for s in (0.01, 0.03, 0.3)]
    assert found["gradient"] == pytest.approx(float(g.norm()))
    assert (found["loss.min"], found["loss.max"]) == (pytest.approx(min(losses)), pytest.approx(max(losses)))
    assert (found["change.min"], found["change.max"]) == (
        pytest.approx(0.01 * float((matrix @ g).norm())),
        pytest.approx(0.3 * float((matrix @ g).norm())),
    )
    assert found["beta"] == pytest.approx(float((matrix @ g).norm() / g.norm()))
    assert found["beta"] <= float(torch.linalg.eigvalsh(matrix).abs().max())


def test_a_gradient_of_zero() -> None:
    loss = Quadratic(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    assert {v.value for v in Smoothness().of(loss)} == {0.0}


def test_a_network_against_plain_autograd() -> None:
    model = network("bn")
    names = [n for n, _ in model.named_parameters()]
    start = {n: p.detach().clone() for n, p in model.named_parameters()}

    def at(values: dict[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
        given = {n: v.clone().requires_grad_() for n, v in values.items()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(model.train(), given, (IMAGES[:8],)), LABELS[:8])
        return float(loss.detach()), dict(zip(names, torch.autograd.grad(loss, list(given.values())), strict=True))

    def norm(a: dict[str, torch.Tensor]) -> float:
        return float(torch.cat([v.flatten() for v in a.values()]).norm())

    _, g = at(start)
    moved = [at({n: start[n] - s * g[n] for n in names}) for s in (0.1, 1.0)]
    changes = [norm({n: other[n] - g[n] for n in names}) for _, other in moved]
    found = values(Smoothness(step_sizes=(0.1, 1.0)), model)
    assert found["gradient"] == pytest.approx(norm(g))
    assert [found["loss.min"], found["loss.max"]] == pytest.approx(sorted(loss for loss, _ in moved))
    assert [found["change.min"], found["change.max"]] == pytest.approx(sorted(changes))
    assert found["beta"] == pytest.approx(max(c / s for c, s in zip(changes, (0.1, 1.0), strict=True)) / norm(g))


@pytest.mark.parametrize("norm", ["bn", "bn+noise", "sn+bn", "batch-renorm"])
def test_no_step_is_no_change(norm: str) -> None:
    """Noise, power iterations and running statistics stand still between the points."""
    model = network(norm)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with undisturbed(model):
        found = values(Smoothness(step_sizes=(1e-12,)), model)
    assert found["change.max"] < 1e-10
    assert found["gradient"] > 1e-3
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_step_sizes_are_read_like_other_sizes() -> None:
    assert Smoothness(step_sizes="1/4").step_sizes == (0.25,)
    assert Smoothness(step_sizes=[0.5, "1e-3"]).step_sizes == (0.5, 0.001)
