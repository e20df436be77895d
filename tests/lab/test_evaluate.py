"""Evaluation: what an attack may do, what is counted, and closed forms on a linear model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.attacks import Attack, registry
from normbench.attacks.base import BALLS, Pool, Threat
from normbench.attacks.cifar10_c import IMAGES
from normbench.lab import evaluate
from normbench.lab.evaluate import EvaluationError, attack, clean, pack, pixels, unpack
from normbench.lab.train import Tensors
from torch import nn

from tests.matrix import sample

COUNT = 60
#: Parameters that make attacks cheap enough to be run on every batch size.
CHEAP: dict[str, dict[str, Any]] = {
    "autoattack": {"eps": [2 / 255]},
    "autoattack-l2": {"eps": [0.1]},
    "cifar10-c": {"severity": [1, 2], "kinds": ["fog"]},
    "cw-l2": {"steps": 10, "searches": 2},
    "ddn": {"steps": 10},
    "ddn-advlib": {"steps": 10},
    "alma": {"steps": 30},
    "fmn-l2": {"steps": 10},
    "fmn-linf": {"steps": 10},
    "fmn-l1": {"steps": 10},
    "hopskipjump": {"steps": 1, "first_queries": 5, "most_queries": 5},
    "bim": {"steps": 5},
    "mim": {"steps": 5},
    "mim-l2": {"steps": 5},
    "pgd": {"restarts": 2, "steps": 5},
    "square": {"queries": 30},
}
#: All but those whose package is not installed.
THERE = [n for n in registry.names() if "package" not in registry.make(n).lacks(None)]
#: Seconds each in batches of one: all sizes of batches are tried on them in `tox -e matrix`.
SLOW = {"autoattack", "autoattack-l2", "corruptions", "cw-l2", "galloway", "hopskipjump", "square"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class _Small(nn.Module):
    def __init__(self, seed: int = 0, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def _data(count: int = COUNT) -> Tensors:
    generator = torch.Generator().manual_seed(3)
    return Tensors(
        torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8),
        torch.randint(0, 5, (count,), generator=generator),
    )


def _learnt(seed: int = 0) -> tuple[_Small, Tensors]:
    """A network with running statistics of its data, and data labelled by it, but for a sixth of the images."""
    model, data = _Small(seed), _data()
    model.train()(pixels(data.images))
    with torch.no_grad():
        labels = model.eval()(pixels(data.images)).argmax(1)
    labels[::6] = (labels[::6] + 1) % 5
    return model, Tensors(data.images, labels)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder with corrupted images in the layout of CIFAR-10-C."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "CIFAR-10-C").mkdir()
    _, data = _learnt()
    images = np.zeros((IMAGES + COUNT, 8, 8, 3), np.uint8)
    images[:COUNT] = images[IMAGES:] = data.images.permute(0, 2, 3, 1).numpy()
    labels = np.zeros(IMAGES + COUNT, np.uint8)
    labels[:COUNT] = labels[IMAGES:] = data.labels.numpy()
    np.save(folder / "CIFAR-10-C" / "fog.npy", 255 - images)
    np.save(folder / "CIFAR-10-C" / "labels.npy", labels)
    return str(folder)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packing_is_reversible(right: list[bool]) -> None:
    assert unpack(pack(torch.tensor(right)), len(right)).tolist() == right


def test_clean_counts_what_argmax_says() -> None:
    model, data = _Small(), _data()
    result = clean(model, data, batch_size=7)
    with torch.no_grad():
        logits = model.eval()(pixels(data.images))
    assert torch.equal(result.correct, logits.argmax(1) == data.labels)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.labels)), rel=1e-5)


@pytest.mark.parametrize("name", THERE)
def test_perturbations_stay_inside_and_accuracy_never_rises(name: str, stored: str) -> None:
    """The harness itself raises where a perturbation leaves its ball or [0, 1]; `largest` is what it measured."""
    model, data = _learnt()
    right = clean(model, data, 60).correct
    assert int(right.sum()) == 50
    state = {k: v.clone() for k, v in model.state_dict().items()}
    results = attack(model, registry.make(name, CHEAP.get(name)), data, right, seed=0, batch_size=16, data_dir=stored)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(unpack(r.outcomes, r.total).sum() == r.correct for r in results)
    assert results[-1].correct < 50, "nothing fell: the attack was not tested"
    if registry.get(name).threat in BALLS:
        assert [r.size for r in results] == sorted(r.size for r in results)
        counts = [50, *(r.correct for r in results)]
        assert counts == sorted(counts, reverse=True)
        assert all(r.largest <= r.size + 1e-6 * max(1, r.size) for r in results if r.largest is not None)
        assert not any((unpack(r.outcomes, r.total) & ~right.numpy()).any() for r in results)


@pytest.mark.parametrize("name", [n for n in THERE if registry.get(n).threat in BALLS])
def test_where_every_image_is_wrong_none_is_attacked(name: str, stored: str) -> None:
    model, data = _learnt()
    method, wrong = registry.make(name, CHEAP.get(name)), torch.zeros(len(data.labels), dtype=torch.bool)
    results = attack(model, method, data, wrong, seed=0, batch_size=16, data_dir=stored)
    assert {(r.correct, r.largest) for r in results} == {(0, None)}


@pytest.mark.parametrize("name", sample(THERE, [n for n in THERE if n not in SLOW]))
def test_results_do_not_depend_on_the_batch_size(name: str, stored: str) -> None:
    model, data = _learnt(1) if name != "cifar10-c" else _learnt()
    right = clean(model, data, 60).correct
    right[24:] = False  # 20 images, of which batches of one take long enough
    method = registry.make(name, CHEAP.get(name))
    outcomes = [
        [r.outcomes for r in attack(model, method, data, right, seed=5, batch_size=size, data_dir=stored)]
        for size in (1, 7, 64)
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_noise_has_the_size_that_it_says_and_is_paired_over_sizes_and_models() -> None:
    method = registry.make("noise", {"std": [0.05, 0.1]})
    images = torch.full((200, 3, 8, 8), 0.5)
    draws = [
        method.perturb(_Small(), images, torch.zeros(200), size, [torch.Generator().manual_seed(i) for i in range(200)])
        - 0.5
        for size in method.sizes
    ]
    assert float(draws[0].std()) == pytest.approx(0.05, rel=0.03)
    assert torch.allclose(2 * draws[0], draws[1], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.004, 0.2))
def test_bim_on_a_linear_two_class_model_succeeds_exactly_beyond_the_margin(seed: int, eps: float) -> None:
    """The L-infinity distance of x to the boundary of a linear model is margin / ||w_1 - w_0||_1; away from the pixel
    bounds BIM reaches it.
    """
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


class _Rogue(Attack):
    """Does what it is told, which may be wrong."""

    name: ClassVar[str] = "rogue"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"
    eps: tuple[float, ...] = (0.1,)
    do: str

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        return {
            "far": lambda x: (x + 0.2).clamp(0, 1),
            "out": lambda x: x + 0.05,
            "nan": lambda x: x * float("nan"),
            "small": lambda x: x[:, :, 1:],
        }[self.do](images)


@pytest.mark.parametrize(
    ("do", "message"), [("far", "size 0.2"), ("out", "pixel range"), ("nan", "non-finite"), ("small", "another shape")]
)
def test_an_attack_that_breaks_the_rules_is_an_error(do: str, message: str) -> None:
    images = torch.full((4, 3, 8, 8), 250, dtype=torch.uint8)
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


class _Forgetful(_Rogue):
    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield index[1:], pool.at(index[1:])[0]


def test_an_attack_that_loses_images_is_an_error() -> None:
    model, data = _learnt()
    with pytest.raises(EvaluationError, match="returned 49 images of 50"):
        attack(model, _Forgetful(do="far"), data, clean(model, data, 60).correct, seed=0, batch_size=64)


class _Liar(Attack):
    """Returns the images as they are: whatever an attack believes, the harness looks for itself."""

    name: ClassVar[str] = "liar"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"
    minimal: ClassVar[bool] = True
    eps: tuple[float, ...] = (0.1,)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        return images


def test_only_what_fools_counts() -> None:
    model, data = _learnt()
    right = clean(model, data, 60).correct
    (result,) = attack(model, _Liar(), data, right, seed=0, batch_size=64)
    assert unpack(result.outcomes, 60).tolist() == right.tolist()
    assert result.largest is None


class _Jump(_Liar):
    """Sets the first pixel to 1 for images of class 0, and to 0.4 for the others."""

    eps: tuple[float, ...] = (0.5, 0.7, 1.0)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        moved = images.clone()
        moved[:, 0, 0, 0] = torch.where(labels == 0, 1.0, 0.4)
        return moved


class _FirstPixel(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0, 0, 0]
        return torch.stack([0.5 - value, value - 0.5], 1)


def test_minimal_attacks_are_scored_by_distance() -> None:
    """Images of class 0 start at 0 and fall by moving 1, that of class 1 starts at 1 and falls by moving 0.6; the last
    one is wrong as it is.
    """
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[2:, 0, 0, 0] = 255
    data = Tensors(images, torch.tensor([0, 0, 1, 0]))
    right = clean(_FirstPixel(), data, 4).correct
    results = attack(_FirstPixel(), _Jump(), data, right, seed=0, batch_size=3)
    assert [unpack(r.outcomes, 4).tolist() for r in results] == [
        [True, True, True, False],
        [True, True, False, False],
        [False] * 4,
    ]
    assert [r.largest for r in results] == [None, pytest.approx(0.6), pytest.approx(1.0)]
    assert [r.model_calls for r in results][1:] == [0, 0]
