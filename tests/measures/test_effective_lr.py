"""Effective learning rate, angle and equilibrium: closed forms, and simulations that reach the equilibrium."""

from __future__ import annotations

import math

import pytest
import torch
from normbench.measures import Step, registry
from normbench.measures.effective_lr import norm_at_equilibrium


def _values(w: torch.Tensor, g: torch.Tensor, after: torch.Tensor, **other: object) -> dict[tuple[str, str], float]:
    given = {
        "lr": 0.1,
        "momentum": 0.0,
        "weight_decay": {"a": 0.0},
        "optimizer": "sgd",
        "invariant": frozenset({"a"}),
    } | other
    step = Step(before={"a": w}, gradient={"a": g}, after={"a": after}, **given)  # type: ignore[arg-type]
    return {(v.quantity, v.layer): v.value for v in registry.make("effective-lr").follow(step)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("angle", [1e-9, 1e-3, 0.5, 2.0])
def test_the_angle_is_exact_however_small(angle: float) -> None:
    w = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    after = 3 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    found = _values(w, w, after)
    assert found["effective-lr.angle", "a"] == found["effective-lr.angle", ""] == pytest.approx(angle, rel=1e-9)
    assert found["effective-lr.rate", "a"] == found["effective-lr.rate", ""] == pytest.approx(0.1 / 4)
    assert found["effective-lr.norm", "a"] == pytest.approx(2)


def test_without_weight_decay_or_sgd_there_is_no_equilibrium() -> None:
    w = torch.ones(1, 2)
    for found in (_values(w, w, w), _values(w, w, w, weight_decay={"a": 0.1}, optimizer="adamw")):
        assert {q for q, _ in found} == {"effective-lr.rate", "effective-lr.angle", "effective-lr.norm"}


def test_layers_that_are_not_scale_invariant_have_an_angle_alone() -> None:
    w = torch.ones(1, 2)
    assert set(_values(w, w, w, weight_decay={"a": 0.1}, invariant=frozenset())) == {("effective-lr.angle", "a")}


def test_at_the_norm_of_the_equilibrium_a_step_does_not_change_the_norm() -> None:
    lr, decay, c = 0.3, 0.2, 1.7
    norm = norm_at_equilibrium(c, lr, decay, 0.0)
    assert (1 - lr * decay) ** 2 * norm**2 + lr**2 * (c / norm) ** 2 == pytest.approx(norm**2)
    assert norm_at_equilibrium(c, 20.0, 0.1, 0.0) == math.inf


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_simulated_weight_arrives_where_the_equilibrium_is(momentum: float) -> None:
    """A random gradient orthogonal to the weight, c = 1, under torch's SGD; the start is a third of the norm of the
    equilibrium.
    """
    lr, decay, size = 0.05, 0.01, 400
    generator = torch.Generator().manual_seed(0)
    expected = norm_at_equilibrium(1.0, lr, decay, momentum)
    w = torch.nn.Parameter(torch.randn(1, size, generator=generator, dtype=torch.float64))
    with torch.no_grad():
        w.mul_(expected / 3 / w.norm())
    optimizer = torch.optim.SGD([w], lr, momentum=momentum, weight_decay=decay)
    measure = registry.make("effective-lr")
    sums: dict[str, list[float]] = {}
    steps = 8000 if momentum == 0 else 3000
    for number in range(steps):
        before = w.detach().clone()
        g = torch.randn(1, size, generator=generator, dtype=torch.float64)
        g -= (g * before).sum() / (before * before).sum() * before
        w.grad = g / g.norm() / before.norm()
        gradient = w.grad.clone()
        optimizer.step()
        if number >= steps - 200:
            step = Step(
                before={"a": before},
                gradient={"a": gradient},
                after={"a": w.detach().clone()},
                lr=lr,
                momentum=momentum,
                weight_decay={"a": decay},
                optimizer="sgd",
                invariant=frozenset({"a"}),
            )
            for v in measure.follow(step):  # type: ignore[attr-defined]
                if v.layer:
                    sums.setdefault(v.quantity.removeprefix("effective-lr."), []).append(v.value)
    found = {k: measure.summarize(f"effective-lr.{k}", v) for k, v in sums.items()}  # type: ignore[attr-defined]
    assert found["norm-equilibrium"] == pytest.approx(expected, rel=1e-9)
    assert found["norm"] == pytest.approx(expected, rel=0.01)
    assert found["angle"] == pytest.approx(found["angle-equilibrium"], rel=0.02)


def test_the_norm_of_the_equilibrium_averages_the_squared_c() -> None:
    measure = registry.make("effective-lr")
    cs = [1.0, 2.0, 3.0]
    norms = [norm_at_equilibrium(c, 0.1, 0.1, 0.0) for c in cs]
    mean = math.sqrt(sum(c * c for c in cs) / 3)
    assert measure.summarize("effective-lr.norm-equilibrium", norms) == pytest.approx(
        norm_at_equilibrium(mean, 0.1, 0.1, 0.0)
    )  # type: ignore[attr-defined]
