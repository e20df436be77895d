"""The loss surface: its middle, its directions, its points."""

from __future__ import annotations

import pytest
import torch
from normbench.measures._loss import ProbeLoss
from normbench.measures.surface import Surface
from torch import nn

from tests.measures.curves import IMAGES, LABELS, Quadratic, network, probe


def values(measure: Surface, model: nn.Module, seed: int = 0) -> dict[tuple[float, float], float]:
    found = {}
    for v in measure.read(probe(model, seed=seed)):
        quantity, _, place = v.quantity.partition("@")
        assert quantity == "surface.loss"
        assert v.layer == ""
        x, y = map(float, place.split(","))
        found[x, y] = v.value
    return found


def test_the_grid_and_its_middle() -> None:
    model = network("bn")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = values(Surface(points=5, extent=0.5, images=12), model)
    assert sorted({x for x, _ in found}) == sorted({y for _, y in found}) == [-0.5, -0.25, 0, 0.25, 0.5]
    assert len(found) == 25
    assert found[0, 0] == float(nn.functional.cross_entropy(model.eval()(IMAGES), LABELS))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert set(values(Surface(points=2), model)) == {(x, y) for x in (-1, 1) for y in (-1, 1)}


@pytest.mark.parametrize("norm", ["bn", "wn", "ws+gn"])
def test_directions_are_normalized_filter_by_filter(norm: str) -> None:
    model = network(norm)
    loss = ProbeLoss(model, IMAGES, LABELS, "eval", 0)
    direction = Surface()._direction(model, loss, torch.Generator().manual_seed(0))
    moved = 0
    for parameter, part in zip(loss.parameters, loss.split(direction), strict=True):
        if parameter.ndim < 2 or parameter[0].numel() == 1:  # biases, gammas, betas, gains
            assert not part.any()
        else:
            assert torch.allclose(part.flatten(1).norm(dim=1), parameter.detach().flatten(1).norm(dim=1))
            moved += 1
    assert moved == 3


def test_a_point_is_the_loss_of_the_moved_network() -> None:
    model = network("gn")
    loss = ProbeLoss(model, IMAGES, LABELS, "eval", 0)
    generator = torch.Generator().manual_seed(4)
    d, e = (Surface()._direction(model, loss, generator) for _ in range(2))
    names = [n for n, _ in model.named_parameters()]
    given = {
        n: p.detach() + part
        for (n, p), part in zip(model.named_parameters(), loss.split(-0.5 * d + 0.5 * e), strict=True)
    }
    assert len(given) == len(names)
    expected = float(nn.functional.cross_entropy(torch.func.functional_call(model.eval(), given, (IMAGES,)), LABELS))
    assert values(Surface(points=3, extent=0.5, images=12), model, seed=4)[-0.5, 0.5] == pytest.approx(
        expected, rel=1e-12
    )
    assert values(Surface(points=3, extent=0.5, images=12), model, seed=5)[-0.5, 0.5] != pytest.approx(
        expected, rel=1e-6
    )


def test_a_quadratic_is_a_bowl(monkeypatch: pytest.MonkeyPatch) -> None:
    """L = |w|^2 / 2 with one filter: |w + x d + y e|^2 with |d| = |e| = |w|."""
    w = torch.linspace(-1, 2, 30, dtype=torch.float64)
    quadratic = Quadratic(torch.eye(30, dtype=torch.float64), w)
    monkeypatch.setattr("normbench.measures._loss.ProbeLoss", lambda *_: quadratic)
    found = values(Surface(points=3), quadratic.model)
    square = float(w @ w)
    for axis in ((1, 0), (0, 1)):
        other = tuple(-c for c in axis)
        assert found[axis] + found[other] - 2 * found[0, 0] == pytest.approx(square)  # type: ignore[index]


def test_in_training_mode_the_length_of_an_invariant_weight_does_not_show() -> None:
    model = network("bn", eps=1e-12)
    measure = Surface(points=3, images=12, mode="train")
    before = values(measure, model)
    with torch.no_grad():
        model[0].weight.mul_(10)
        model[3].weight.mul_(0.1)
    after = values(measure, model)
    assert after == {place: pytest.approx(value, rel=1e-8) for place, value in before.items()}
    assert values(Surface(points=3, images=12, mode="eval"), model)[1, 1] != pytest.approx(before[1, 1], rel=1e-3)
