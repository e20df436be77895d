"""The health checks: masked networks raise a flag, honest ones of eight norms do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from normbench.attacks import registry
from normbench.lab.evaluate import attack
from normbench.lab.health import examine
from normbench.lab.train import Tensors
from normbench.spec.outcome import AttackResult, HealthCheck
from torch import nn

from tests.attacks.conftest import Trained, right_of
from tests.matrix import sample

CHECKS = [
    "finite logits",
    "logits, not probabilities",
    "eval mode",
    "deterministic",
    "independent of batch mates",
    "gradients",
    "cross-entropy against DLR",
    "white box against black box",
    "iterative against single step",
    "monotone in eps",
    "nothing stands everywhere",
    "within eps",
]


@pytest.fixture(scope="module")
def some_images(test_images: Tensors) -> Tensors:
    return Tensors(test_images.images[:128], test_images.labels[:128])


def _evaluate(model: nn.Module, data: Tensors, right: torch.Tensor) -> list[AttackResult]:
    return attack(
        model,
        registry.make("bim", {"eps": ["8/255", "16/255", "32/255"], "steps": 10}),
        data,
        right,
        seed=0,
        batch_size=256,
    )


def _examine(model: nn.Module, data: Tensors) -> tuple[HealthCheck, ...]:
    right = right_of(model, data)
    return examine(model, data, right, _evaluate(model, data, right), seed=0, batch_size=256)


@pytest.mark.parametrize("norm", sample(["bn", "ln", "gn", "in", "ws", "wn", "cwn", "none"], ["bn", "ln", "wn"]))
def test_honest_networks_raise_no_flag(norm: str, trained: Trained, some_images: Tensors) -> None:
    model = trained(norm)
    assert float(right_of(model, some_images).double().mean()) > 0.85
    found = _examine(model, some_images)
    assert [c.check for c in found] == CHECKS
    assert [f"{c.check}: {c.evidence}" for c in found if not c.passed] == []


class _Wrapped(nn.Module):
    def __init__(self, model: nn.Module, forward: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, forward

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.change(self.model, images)


MASKS: dict[str, tuple[Callable[[nn.Module, torch.Tensor], torch.Tensor], set[str]]] = {
    "logits x 100": (
        lambda m, x: 100 * m(x),
        {"gradients", "cross-entropy against DLR", "white box against black box", "nothing stands everywhere"},
    ),
    "softmax outputs": (lambda m, x: m(x).softmax(1), {"logits, not probabilities"}),
    "quantised inputs": (lambda m, x: m((8 * x).round() / 8), {"gradients", "nothing stands everywhere"}),
    "a random layer": (lambda m, x: m(x + 0.1 * torch.randn_like(x)), {"deterministic"}),
    "the batch's mean": (lambda m, x: m(x - x.mean(0) / 2), {"independent of batch mates"}),
}


@pytest.mark.parametrize("mask", MASKS)
def test_masked_networks_raise_flags(mask: str, trained: Trained, some_images: Tensors) -> None:
    forward, expected = MASKS[mask]
    torch.manual_seed(0)
    found = {c.check: c for c in _examine(_Wrapped(trained("gn"), forward).eval(), some_images)}
    assert expected <= {name for name, c in found.items() if not c.passed}
    assert all(c.evidence for c in found.values())


def test_scaled_logits_look_robust_to_cross_entropy_alone(trained: Trained, some_images: Tensors) -> None:
    """What the flag is about: the same predictions, and a robust accuracy that is an artefact."""
    plain, scaled = trained("gn"), _Wrapped(trained("gn"), lambda m, x: 100 * m(x)).eval()
    right = right_of(plain, some_images)
    assert torch.equal(right_of(scaled, some_images), right)
    assert _evaluate(scaled, some_images, right)[-1].accuracy > _evaluate(plain, some_images, right)[-1].accuracy + 0.4


def test_a_network_left_in_training_mode_or_without_finite_logits_raises_a_flag(
    trained: Trained, some_images: Tensors
) -> None:
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> Stubborn:
            return super().train(True)

    model = nn.Sequential(trained("gn"), Stubborn(0.0))
    right = right_of(trained("gn"), some_images)
    failed = {
        c.check: c.evidence for c in examine(model, some_images, right, [], seed=0, batch_size=64) if not c.passed
    }
    assert failed == {"eval mode": "in training mode: 1"}
    broken = _Wrapped(trained("gn"), lambda m, x: m(x) / 0).eval()
    checks = examine(broken, some_images, right, [], seed=0, batch_size=64)
    assert not checks[0].passed
    assert checks[0].check == "finite logits"


def test_without_a_linf_attack_the_checks_bring_their_own(trained: Trained, some_images: Tensors) -> None:
    model = trained("bn")
    right = right_of(model, some_images)
    results = attack(model, registry.make("pgd-l2", {"eps": [0.5]}), some_images, right, seed=0, batch_size=256)
    found = examine(model, some_images, right, results, seed=0, batch_size=256)
    assert all(c.passed for c in found)
    assert examine(model, some_images, torch.zeros_like(right), results, seed=0, batch_size=256)[0].check == "sample"


@pytest.mark.parametrize("weak", [False, True])
def test_an_attack_on_fast_gradients_is_held_against_exact_ones(
    weak: bool, trained: Trained, some_images: Tensors
) -> None:
    """Where gradients in low precision fool nobody, the survivors fall to the network's own."""
    model = trained("bn")
    right = right_of(model, some_images)
    method = registry.make("bim", {"eps": ["16/255"], "steps": 10})
    search = _Blind(model) if weak else None
    found = attack(model, method, some_images, right, seed=0, batch_size=256, search=search)  # type: ignore[arg-type]
    checks = examine(model, some_images, right, found, seed=0, batch_size=256, searched=[method])
    (check,) = [c for c in checks if c.check == "fast gradients against exact ones"]
    assert check.passed is not weak, check.evidence
    assert check.evidence.startswith(f"{method.setting} at 0.06275: ")


class _Blind(nn.Module):
    """A search whose logits are the network's own and whose gradients are all zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).detach() + 0 * images.flatten(1).sum(1, keepdim=True)

    def overflowed(self) -> bool:
        return False

    def thinks_wrong(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.model(images).argmax(1) != labels
