"""The loop of the gradient attacks: foolbox's bits, early exit that changes no outcome, closed forms."""

from __future__ import annotations

from typing import Any

import foolbox
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.attacks import registry
from normbench.attacks._balls import nearest_in_l1, norms, project, random_starts, sparse_step
from normbench.attacks._gradient import GradientAttack, loss_of
from normbench.attacks.base import Pool
from normbench.lab.evaluate import attack, pixels, unpack
from normbench.lab.train import Tensors
from torch import nn

from tests.attacks.conftest import Trained, right_of

GRADIENT = [n for n in registry.names() if issubclass(registry.get(n), GradientAttack)]


def _first(data: Tensors, count: int) -> Tensors:
    return Tensors(data.images[:count], data.labels[:count])


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("name", [n for n in GRADIENT if n != "pgd-l1"])
def test_bits_are_foolboxs(name: str, loss: str, trained: Trained, test_images: Tensors) -> None:
    model, data = trained("bn"), _first(test_images, 50)
    if loss == "dlr" and "loss" not in registry.get(name).model_fields:
        pytest.skip("the attack has no choice of loss")
    params: dict[str, Any] = {"loss": loss} if loss == "dlr" else {}
    size = registry.make(name).sizes[-1]
    ours, theirs = (
        registry.make(name, params | {"engine": engine}).perturb(
            model, pixels(data.images), data.labels, size, _generators(50)
        )
        for engine in ("loop", "foolbox")
    )
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, pixels(data.images))


def test_bim_is_what_a_user_of_foolbox_gets(trained: Trained, test_images: Tensors) -> None:
    """The same without this package's hooks into foolbox: its public call, bounds and clipping included."""
    model, data = trained("gn"), _first(test_images, 80)
    images = pixels(data.images)
    ours = registry.make("bim", {"steps": 7, "step_size": 0.01}).perturb(model, images, data.labels, 0.05, [])
    theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.01, steps=7)
    raw, clipped, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1)), images, data.labels, epsilons=0.05)
    assert torch.equal(ours, raw)
    assert torch.equal(ours, clipped)


@pytest.mark.parametrize("name", GRADIENT)
def test_images_that_are_not_fooled_end_where_they_do_without_early_exit(
    name: str, trained: Trained, test_images: Tensors
) -> None:
    """Their companions leave and are replaced on the way; an image that is fooled at the end was fooled early."""
    model, data = trained("bn"), _first(test_images, 90)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    method, index = registry.make(name), right_of(model, data).nonzero().flatten()
    pool = Pool(images=data.images, labels=data.labels, seed=4)
    size = {"linf": 0.06, "l2": 0.25, "l1": 1.0}[method.threat]
    images, labels = pool.at(index)
    full = method.perturb(model, images, labels, size, pool.generators(method.name, index))
    found = list(method.examples(model, pool, index, size, batch_size=16))
    order = torch.cat([i for i, _ in found])
    early = torch.cat([x for _, x in found])[order.argsort()]
    assert torch.equal(order.sort().values, index)
    with torch.no_grad():
        stands_early, stands_full = model(early).argmax(1) == labels, model(full).argmax(1) == labels
    assert torch.equal(early[stands_early], full[stands_early])
    assert not (stands_early & ~stands_full).any()
    assert 0 < int(stands_early.sum()) < len(index)


class _Watched(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.batches = model, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.model(images)


def test_batches_are_refilled_and_never_too_large(trained: Trained, test_images: Tensors) -> None:
    model = _Watched(trained("bn"))
    index = torch.arange(len(test_images.labels))
    pool = Pool(images=test_images.images, labels=test_images.labels, seed=0)
    list(registry.make("bim", {"steps": 10}).examples(model, pool, index, 0.2, batch_size=64))
    assert max(model.batches) == 64
    assert sum(b >= 56 for b in model.batches) * 56 > 0.6 * sum(model.batches)
    assert sum(model.batches) < 0.6 * 10 * len(index)


def test_early_exit_and_survivors_give_the_accuracies_of_foolbox(trained: Trained, test_images: Tensors) -> None:
    """What a user gets from `epsilons=[...]`; an image may fall on the way and come back at the last step, so ours may
    be lower, never higher.
    """
    model, sizes = trained("gn"), [8 / 255, 16 / 255, 32 / 255]
    right = right_of(model, test_images)
    ours = attack(model, registry.make("bim", {"eps": sizes, "steps": 10}), test_images, right, seed=0, batch_size=64)
    images = pixels(test_images.images)
    for result, size in zip(ours, sizes, strict=True):
        theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=2.5 * size / 10, steps=10)
        _, _, success = theirs(foolbox.PyTorchModel(model, bounds=(0, 1)), images, test_images.labels, epsilons=size)
        stands = right & ~success
        assert not (torch.from_numpy(unpack(result.outcomes, result.total)) & ~stands).any()
        assert result.correct == pytest.approx(int(stands.sum()), abs=2)


def test_restarts_attack_those_that_stand_from_elsewhere(trained: Trained, test_images: Tensors) -> None:
    model, data = trained("bn"), test_images
    right = right_of(model, data)
    once, thrice = (
        attack(
            model, registry.make("pgd", {"eps": [0.06], "steps": 3, "restarts": r}), data, right, seed=1, batch_size=64
        )[0]
        for r in (1, 3)
    )
    assert not (unpack(thrice.outcomes, thrice.total) & ~unpack(once.outcomes, once.total)).any()
    assert thrice.correct < once.correct
    assert once.model_calls < thrice.model_calls < 3 * once.model_calls
    pool = Pool(images=data.images, labels=data.labels, seed=1)
    assert pool.seed_of("pgd", 3) != Pool(images=data.images, labels=data.labels, seed=1, restart=1).seed_of("pgd", 3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 0.2), st.sampled_from([1, 7, 64]))
def test_bim_with_early_exit_succeeds_exactly_beyond_the_margin(seed: int, eps: float, batch_size: int) -> None:
    """On a linear two-class model the L-infinity distance to the boundary is margin / ||w_1 - w_0||_1; away from the
    pixel bounds BIM reaches it.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    images = 0.3 + 0.4 * torch.rand(40, 1, 4, 4).double()
    with torch.no_grad():
        logits = model(images)
        model[1].bias[1] += (logits[:, 0] - logits[:, 1]).median()
        logits = model(images)
        labels = logits.argmax(1)
        reach = (logits[:, 0] - logits[:, 1]).abs() / (model[1].weight[0] - model[1].weight[1]).abs().sum()
    (result,) = attack(
        model,
        registry.make("bim", {"eps": [eps]}),
        Tensors(images, labels),
        torch.ones(40, dtype=torch.bool),
        seed=0,
        batch_size=batch_size,
    )
    stands = torch.from_numpy(unpack(result.outcomes, 40))
    clear = (reach - eps).abs() > 1e-5
    assert torch.equal(stands[clear], (reach > eps)[clear])


@given(st.integers(0, 10_000), st.sampled_from(["linf", "l2", "l1"]), st.floats(0.01, 20))
def test_random_starts_and_projections_stay_in_the_ball(seed: int, ball: Any, size: float) -> None:
    torch.manual_seed(seed)
    images = torch.rand(6, 3, 5, 5)
    begun = random_starts(images, size, ball, _generators(6))
    far = images + size * torch.randn_like(images)
    projected = nearest_in_l1(far, images, size) if ball == "l1" else project(far, images, size, ball)
    for x in (begun, projected):
        assert float(norms(x.double() - images.double(), ball).max()) <= size + 1e-5 * max(1, size)
    inside = images + (far - images) * (0.5 * size / norms(far - images, ball))
    again = nearest_in_l1(inside, images, size) if ball == "l1" else project(inside, images, size, ball)
    assert torch.allclose(again, inside, atol=1e-6)


def test_the_nearest_point_of_the_l1_ball_is_the_nearest() -> None:
    """Optimality: moving mass between any two coordinates of the projection brings it no nearer; compared with a fine
    search in two dimensions.
    """
    moved = torch.tensor([[0.9, 0.3], [0.2, -0.1], [-0.8, 0.8]]).view(3, 1, 1, 2)
    found = nearest_in_l1(moved, torch.zeros_like(moved), 0.6)
    assert torch.allclose(found.view(3, 2), torch.tensor([[0.6, 0.0], [0.2, -0.1], [-0.3, 0.3]]), atol=1e-6)


def test_a_sparse_step_moves_the_largest_gradients_that_can_move() -> None:
    gradient = torch.tensor([5.0, -4.0, 3.0, 2.0]).view(1, 1, 2, 2)
    x = torch.tensor([1.0, 0.5, 0.5, 0.5]).view(1, 1, 2, 2)  # the first pixel is at its bound
    assert sparse_step(gradient, x, 0.5).flatten().tolist() == [0, -0.5, 0.5, 0]


def test_dlr_is_blind_to_scale_and_cross_entropy_is_not() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, -1.0], [0.0, 2.0, 1.0, 1.5]])
    labels = torch.tensor([0, 2])
    assert torch.allclose(loss_of(logits, labels, "dlr"), torch.tensor([-2 / 2.5, 1 / 1.0]))
    assert torch.allclose(loss_of(100 * logits, labels, "dlr"), loss_of(logits, labels, "dlr"))
    assert float(loss_of(100 * logits, labels, "ce")[1]) == pytest.approx(100.0)
    assert torch.equal(loss_of(logits[:, :2], torch.tensor([0, 1]), "dlr"), torch.tensor([-2.0, -2.0]))
