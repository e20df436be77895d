"""Evaluation: what an attack may do, what is counted, and closed forms on a linear model."""

from __future__ import annotations

from typing import ClassVar

import foolbox
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark.attacks import Attack, registry
from benchmark.lab import evaluate
from benchmark.lab.evaluate import EvaluationError, attack, clean, pack, pixels, unpack
from benchmark.lab.train import Tensors


class _Small(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def _data(count: int = 60) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    return Tensors(torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.randint(0, 3, (count,), generator=generator))


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packing_is_reversible(right: list[bool]) -> None:
    assert unpack(pack(torch.tensor(right)), len(right)).tolist() == right


def test_clean_counts_what_argmax_says() -> None:
    model, data = _Small(), _data()
    result = clean(model, data, batch_size=7)
    with torch.no_grad():
        logits = model.eval()(pixels(data.images))
    assert torch.equal(result.right, logits.argmax(1) == data.labels)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.labels)), rel=1e-5)


@pytest.mark.parametrize("name", registry.names())
def test_perturbations_stay_inside_and_accuracy_never_rises(name: str) -> None:
    """The harness itself raises where a perturbation leaves its ball or [0, 1]."""
    model, data = _Small(), _data()
    model.train()(pixels(data.images))  # moves the running statistics away from their start
    right = clean(model, data, 60).right
    state = {k: v.clone() for k, v in model.state_dict().items()}
    results = attack(model, registry.make(name), data, right, seed=0, batch_size=16)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert [r.size for r in results] == sorted(r.size for r in results)
    assert all(unpack(r.outcomes, r.total).sum() == r.correct for r in results)
    if registry.get(name).threat != "noise":
        counts = [int(right.sum()), *(r.correct for r in results)]
        assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("name", registry.names())
def test_results_do_not_depend_on_the_batch_size(name: str) -> None:
    model, data = _Small(1), _data()
    right = clean(model, data, 60).right
    outcomes = [[r.outcomes for r in attack(model, registry.make(name), data, right, seed=5, batch_size=size)] for size in (1, 7, 64)]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_noise_has_the_size_that_it_says_and_is_paired_over_sizes_and_models() -> None:
    method = registry.make("noise", {"std": [0.05, 0.1]})
    images = torch.full((200, 1, 8, 8), 0.5)
    draws = [method.perturb(_Small(), images, torch.zeros(200), size, [torch.Generator().manual_seed(i) for i in range(200)]) - 0.5 for size in method.sizes]
    assert float(draws[0].std()) == pytest.approx(0.05, rel=0.03)
    assert torch.allclose(2 * draws[0], draws[1], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.004, 0.2))
def test_bim_on_a_linear_two_class_model_succeeds_exactly_beyond_the_margin(seed: int, eps: float) -> None:
    """The L-infinity distance of x to the boundary of a linear model is margin / ||w_1 - w_0||_1; away from the pixel bounds BIM reaches it."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    linear = model[1]
    images = 0.4 + 0.2 * torch.rand(40, 1, 4, 4).double()
    with torch.no_grad():
        logits = model(images)
        linear.bias[1] += (logits[:, 0] - logits[:, 1]).median()  # put the boundary among the images
        labels = model(images).argmax(1)
        margin = (model(images).gather(1, labels[:, None]) - model(images).gather(1, 1 - labels[:, None])).flatten()
        reach = margin / (linear.weight[0] - linear.weight[1]).abs().sum()
    perturbed = registry.make("bim", {"eps": [eps], "steps": 20}).perturb(model, images, labels, eps, [])
    fooled = model(perturbed).argmax(1) != labels
    near = (reach - eps).abs() < 1e-9
    assert torch.equal(fooled[~near], (eps > reach)[~near])


def test_bim_is_foolboxs() -> None:
    model, data = _Small(2).eval(), _data()
    images = pixels(data.images)
    ours = registry.make("bim", {"steps": 5, "step_size": 0.01}).perturb(model, images, data.labels, 0.03, [])
    theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.01, steps=5)
    _, clipped, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1)), images, data.labels, epsilons=0.03)
    assert torch.equal(ours, clipped)


class _Rogue(Attack):
    """Does what it is told, which may be wrong."""

    name: ClassVar[str] = "rogue"
    threat = "linf"  # type: ignore[assignment]
    size_field: ClassVar[str] = "eps"
    eps: tuple[float, ...] = (0.1,)
    do: str

    def perturb(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: float, generators: list[torch.Generator]) -> torch.Tensor:
        return {"far": lambda x: (x + 0.2).clamp(0, 1), "out": lambda x: x + 0.05, "nan": lambda x: x * float("nan"), "small": lambda x: x[:, :, 1:]}[self.do](images)


@pytest.mark.parametrize(("do", "message"), [("far", "size 0.2"), ("out", "pixel range"), ("nan", "non-finite"), ("small", "another shape")])
def test_an_attack_that_breaks_the_rules_is_an_error(do: str, message: str) -> None:
    images = torch.full((4, 1, 8, 8), 250, dtype=torch.uint8)
    images[..., 0] = 100
    data = Tensors(images, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(EvaluationError, match=message):
        attack(_Small(), _Rogue(do=do), data, torch.ones(4, dtype=torch.bool), seed=0, batch_size=4)


class _Broken(_Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * float("nan")


def test_nan_logits_are_an_error_not_a_prediction() -> None:
    with pytest.raises(EvaluationError, match="not finite"):
        clean(_Broken(), _data(), 16)


class _Moving(_Small):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return super().forward(images)


def test_a_model_that_changes_while_it_is_evaluated_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="state: seen"):
        clean(_Moving(), _data(), 16)


def test_unpack_gives_test_set_order() -> None:
    right = torch.tensor([True, False, False, True, True, False, True, False, True])
    assert np.array_equal(unpack(pack(right), 9), right.numpy())
    assert evaluate.pack(right)[0] == 0b10011010
