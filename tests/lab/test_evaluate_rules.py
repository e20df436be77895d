"""What the harness lets an attack return, what it counts, and what it says meanwhile."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from normbench.attacks import Attack
from normbench.attacks.base import Threat
from normbench.lab.evaluate import EvaluationError, attack
from normbench.lab.train import Tensors
from torch import nn


class _Sum(nn.Module):
    """Class 1 where the mean pixel is above 1/2."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def _black(count: int = 2) -> Tensors:
    return Tensors(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))


class _Exact(Attack):
    """Adds `by` to every pixel."""

    name: ClassVar[str] = "exact"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"
    eps: tuple[float, ...] = (0.1,)
    by: float = 0.0

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        return images + self.by


class _ExactL2(_Exact):
    threat: ClassVar[Threat] = "l2"


class _ExactL1(_Exact):
    threat: ClassVar[Threat] = "l1"


@pytest.mark.parametrize(
    ("kind", "size", "longer"),
    [
        (_Exact, 0.1, 1),
        (_Exact, 0.9, 1),
        (_ExactL2, 0.1, 2),
        (_ExactL2, 1.6, 2),
        (_ExactL1, 0.1, 4),
        (_ExactL1, 3.2, 4),
    ],
)
def test_a_perturbation_may_be_larger_than_its_size_by_rounding_alone(
    kind: type[_Exact], size: float, longer: float
) -> None:
    """Four pixels moved by `a` have L-infinity norm a, L2 norm 2 a and L1 norm 4 a. Allowed is 1e-6, relative to sizes
    above 1.
    """
    for excess in (0.0, 5e-7):
        method = kind(eps=(size,), by=(size + excess * max(1, size)) / longer)
        (result,) = attack(_Sum(), method, _black(), torch.ones(2, dtype=torch.bool), seed=0, batch_size=2)
        assert result.largest == pytest.approx(size, rel=1e-6, abs=1e-6)
    too_large = size + 2e-6 * max(1, size)
    method = kind(eps=(size,), by=too_large / longer)
    with pytest.raises(EvaluationError) as refused:
        attack(_Sum(), method, _black(), torch.ones(2, dtype=torch.bool), seed=0, batch_size=2)
    assert str(refused.value) == f"{method.setting} at {size:g} returned a perturbation of size {too_large:g}"
