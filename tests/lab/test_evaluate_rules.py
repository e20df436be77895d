"""What the harness lets an attack return, what it counts, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from normbench.attacks import Attack
from normbench.attacks.base import Threat
from normbench.lab.evaluate import EvaluationError, _together, attack, clean, evaluating, pixels, predict
from normbench.lab.train import Tensors
from normbench.spec.robustness import unpack
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


class _Patient(_Exact):
    """Of `kinds` kinds, each tried `times` times at each size. Moves an image by its number, in thousandths."""

    kinds: int = 1
    times: int = 1

    @property
    def attempts(self) -> int:
        return self.times

    def parts(self) -> Sequence[Attack]:
        return [self] * self.kinds

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        model(images)
        return images + torch.linspace(0, self.by, len(images)).view(-1, 1, 1, 1)


class _Smallest(_Patient):
    minimal: ClassVar[bool] = True


class _Noise(_Patient):
    threat: ClassVar[Threat] = "noise"


def _attacked(method: Attack, count: int = 5, **settings: Any) -> tuple[list[Any], list[float]]:
    """Its results on black images in batches of two, and what it reported."""
    told: list[float] = []
    right = torch.ones(count, dtype=torch.bool)
    found = attack(_Sum(), method, _black(count), right, seed=0, batch_size=2, report=told.append, **settings)
    return found, told


@pytest.mark.parametrize("kind", [_Patient, _Noise])
@pytest.mark.parametrize(("kinds", "sizes", "times"), [(1, 1, 1), (2, 1, 1), (1, 3, 1), (1, 1, 4), (2, 3, 2)])
def test_progress_is_told_in_equal_steps(kind: type[_Patient], kinds: int, sizes: int, times: int) -> None:
    """Each pass over five images ends batches at 2/5, 4/5 and 5/5 of it; all passes are alike."""
    _, told = _attacked(kind(eps=tuple(0.1 * (i + 1) for i in range(sizes)), kinds=kinds, times=times))
    passes = kinds * sizes * times
    assert told == pytest.approx([(n + done) / passes for n in range(passes) for done in (0.4, 0.8, 1.0)])


def test_progress_of_an_attack_that_runs_once_for_all_sizes() -> None:
    _, told = _attacked(_Smallest(eps=(0.1, 0.2, 0.3), kinds=2))
    assert told == pytest.approx([0.2, 0.4, 0.5, 0.7, 0.9, 1.0])


@pytest.mark.parametrize("times", [1, 3])
def test_each_image_that_the_network_sees_is_counted(times: int) -> None:
    """Five asked by the attack, five by the harness, in each attempt."""
    results, _ = _attacked(_Patient(eps=(0.1, 0.2), times=times))
    assert [r.model_calls for r in results] == [10 * times, 10 * times]
    once, _ = _attacked(_Smallest(eps=(0.1, 0.2)))
    assert [r.model_calls for r in once] == [10, 0]


@pytest.mark.parametrize("kind", [_Patient, _Smallest])
@pytest.mark.parametrize("by", [-0.9, 0.9])
def test_what_stands_in_a_result(kind: type[_Patient], by: float) -> None:
    """White or black images, in batches of two of which the second falls; the last one stands."""
    images = torch.full((5, 1, 2, 2), 255 if by < 0 else 0, dtype=torch.uint8)
    data = Tensors(images, torch.full((5,), int(by < 0)))
    method = kind(eps=(0.9,), by=by)
    (made,) = attack(_Sum(), method, data, torch.ones(5, dtype=torch.bool), seed=0, batch_size=2)
    assert (made.attack, made.threat, made.size) == (method.setting, "linf", 0.9)
    assert (made.correct, made.total) == (3, 5)
    assert unpack(made.outcomes, 5).tolist() == [True, False, True, False, True]
    assert made.largest == pytest.approx(0.9)
    assert made.seconds < 60


def test_images_that_are_wrong_as_they_are_stay_so_and_are_not_attacked() -> None:
    wrong = torch.zeros(3, dtype=torch.bool)
    results = attack(_Sum(), _Patient(eps=(0.1, 0.2)), _black(3), wrong, seed=0, batch_size=2)
    assert [(r.correct, r.total, r.model_calls, r.largest) for r in results] == [(0, 3, 0, None)] * 2


def test_what_looks_for_the_smallest_is_given_the_largest_size() -> None:
    given: list[float] = []

    class _Asked(_Smallest):
        def perturb(self, model: nn.Module, images: torch.Tensor, labels: Any, size: float, *_: Any) -> torch.Tensor:
            given.append(size)
            return images

    _attacked(_Asked(eps=(0.1, 0.3)), 2)
    assert given == [0.3]


def test_the_largest_perturbation_is_that_of_all_batches_and_attempts() -> None:
    class _Shrinking(_Patient):
        def perturb(self, model: nn.Module, images: torch.Tensor, *rest: Any) -> torch.Tensor:
            return images + next(moves)

    for several in ([0.1, 0.3, 0.2, 0.05], [0.3, 0.1, 0.2, 0.05], [0.01, 0.1, 0.2, 0.3]):
        moves = iter(several)
        (made,) = _attacked(_Shrinking(eps=(0.3,), times=2), 4)[0]
        assert made.largest == pytest.approx(0.3)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 6))
def test_what_is_gathered_is_all_of_it_in_order_and_no_batch_waits(parts: list[int], size: int) -> None:
    ends = [sum(parts[: i + 1]) for i in range(len(parts))]
    found = [
        (torch.arange(end - n, end), torch.arange(end - n, end).float()) for n, end in zip(parts, ends, strict=True)
    ]
    made = list(_together(found, size))
    assert [i for index, _ in made for i in index.tolist()] == list(range(sum(parts)))
    assert all(index.tolist() == images.tolist() for index, images in made)
    # All but the last are full, and none would be so without its last part.
    assert all(size <= len(index) < size + 5 for index, _ in made[:-1])


class _Deaf(_Exact):
    """Fails by itself, whatever the network says."""

    asks: bool = True

    def perturb(self, model: nn.Module, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        if self.asks:
            model(images)
        raise ValueError("no step found")


class _Overflowing(_Sum):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) / 0


def test_an_attack_is_blamed_for_its_own_errors_alone() -> None:
    right = torch.ones(2, dtype=torch.bool)
    for model, asks in ((_Sum(), True), (_Overflowing(), False)):
        with pytest.raises(ValueError, match="no step found"):
            attack(model, _Deaf(asks=asks), _black(), right, seed=0, batch_size=2)
    with pytest.raises(EvaluationError, match="the logits are not finite") as told:
        attack(_Overflowing(), _Deaf(), _black(), right, seed=0, batch_size=2)
    assert isinstance(told.value.__cause__, ValueError)
    with pytest.raises(EvaluationError, match="the logits are not finite"):
        predict(_Overflowing(), torch.zeros(1, 1, 2, 2))


def test_pixels_are_between_zero_and_one() -> None:
    assert pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert pixels(floats).tolist() == [0.0, 0.25, 1.0]
    assert pixels(floats).dtype == torch.float32


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("before", [(True, False), (False, True)])
def test_evaluation_has_full_precision_and_leaves_what_was_set(fails: bool, before: tuple[bool, bool]) -> None:
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32, convolution.allow_tf32 = before
    try:
        with pytest.raises(ZeroDivisionError) if fails else nullcontext(), evaluating(_Sum()):
            assert (matmul.allow_tf32, convolution.allow_tf32) == (False, False)
            1 / (not fails)
        assert (matmul.allow_tf32, convolution.allow_tf32) == before
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = kept


def test_the_loss_is_the_mean_over_images() -> None:
    """Black images have logits 1/2 and -1/2."""
    for size in (1, 2, 5):
        assert clean(_Sum(), _black(5), size).loss == pytest.approx(0.313262, abs=1e-5)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_one_batch_whose_logits_are_not_finite_is_enough(bad: int) -> None:
    class _Once(_Sum):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(images) * (float("nan") if self.calls == bad + 1 else 1.0)

    with pytest.raises(EvaluationError, match=r"^the logits are not finite$"):
        clean(_Once(), _black(6), 2)


@pytest.mark.parametrize("kind", [_Patient, _Noise])
def test_attempts_are_numbered_and_what_has_no_ball_meets_every_image(kind: type[_Patient]) -> None:
    """Of four images one is wrong as it is, which noise may put right and an attack leaves alone."""
    asked: list[tuple[int, int, list[int]]] = []

    class _Noted(kind):  # type: ignore[misc, valid-type]
        def examples(self, model: nn.Module, pool: Any, index: torch.Tensor, *rest: Any) -> Any:
            asked.append((pool.seed, pool.restart, index.tolist()))
            return super().examples(model, pool, index, *rest)

    right = torch.tensor([True, False, True, True])
    results = attack(_Sum(), _Noted(eps=(0.1,), times=2, kinds=2), _black(4), right, seed=5, batch_size=4)
    first = [0, 2, 3] if kind is _Patient else [0, 1, 2, 3]
    assert asked == [(5, 0, first), (5, 1, first)] * 2
    assert [r.correct for r in results] == [len(first)] * 2
