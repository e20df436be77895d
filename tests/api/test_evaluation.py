"""`evaluate`: the numbers of a trial for any network, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import normbench as nb
import numpy as np
import pytest
import torch
from normbench.lab import evaluate as lab
from normbench.lab import health
from normbench.lab.train import Tensors
from normbench.spec import robustness
from torch import nn
from torchvision.transforms import Normalize

COUNT = 40
ATTACKS = ["bim[eps=1/255;8/255,steps=4]", {"pgd": {"eps": [8 / 255], "steps": 3}}, "noise"]


class Nan(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :5] * torch.nan


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return nn.Sequential(Normalize((0.5,) * 3, (0.25,) * 3), body)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def labels(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's own answers, but for each fifth image."""
    right = lab.predict(copy.deepcopy(model).eval(), lab.pixels(images)).argmax(1)
    right[::5] = (right[::5] + 1) % 5
    return right


def test_numbers_are_those_of_a_trial(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The calls that a trial makes for the same attacks, seed and images."""
    found = nb.evaluate(model, images, labels, attacks=ATTACKS, seed=3)
    data = Tensors(images, labels)
    clean = lab.clean(model, data, 500)
    assert found.accuracy == float(clean.correct.double().mean()) == 0.8
    assert (found.loss, found.correct.tolist()) == (clean.loss, clean.correct.tolist())
    methods = [nb.attacks()["bim"](eps=[1 / 255, 8 / 255], steps=4), nb.attacks()["pgd"](eps=[8 / 255], steps=3)]
    methods.append(nb.attacks()["noise"]())
    expected = [r for m in methods for r in lab.attack(model, m, data, clean.correct, seed=3, batch_size=500)]
    drop = {"seconds"}
    assert [a.model_dump(exclude=drop) for a in found.attacks] == [a.model_dump(exclude=drop) for a in expected]
    assert found.curves == robustness.curves(lab.pack(clean.correct), expected)
    assert found.health == health.examine(model, data, clean.correct, expected, seed=3, batch_size=500)
    assert not found.failed
    text = str(found)
    assert "clean accuracy 80.00% of 40 images" in text
    assert "worst case linf" in text
    table = found.table()
    assert table.column("accuracy").to_pylist() == [a.accuracy for a in expected]
    assert [int(found.survivors(a).sum()) for a in found.attacks] == [a.correct for a in expected]


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.float() / 255,
        lambda x: x.double() / 255,
        lambda x: x.numpy(),
        lambda x: (x.float() / 255).numpy(),
        lambda x: x,
    ],
    ids=["float32", "float64", "array", "float array", "uint8"],
)
def test_images_may_come_in_any_of_these_ways(
    given: Any, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """Also in other batches."""
    expected = nb.evaluate(model, images, labels, attacks="noise[std=0.2]")
    found = nb.evaluate(model, given(images), labels.tolist(), attacks="noise[std=0.2]", batch_size=7)
    assert found.correct.tolist() == expected.correct.tolist()
    assert found.attacks[0].outcomes == expected.attacks[0].outcomes


def test_the_network_is_left_as_it_was(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    mine = copy.deepcopy(model).train()
    next(mine.parameters()).requires_grad_(False)
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    nb.evaluate(mine, images, labels, attacks="fgsm")
    assert all(module.training for module in mine.modules())
    assert [p.requires_grad for p in mine.parameters()][:2] == [False, True]
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items())


def test_without_attacks_there_is_the_clean_accuracy(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    found = nb.evaluate(model, images, labels)
    assert (found.accuracy, found.attacks, found.curves, found.health, found.healthy) == (0.8, (), (), (), True)


def test_masked_gradients_are_told(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 8).round() / 8

    found = nb.evaluate(nn.Sequential(Steps(), model), images, labels, attacks="bim[eps=8/255,steps=3]")
    assert not found.healthy
    assert "health: gradients did not pass" in str(found)


def test_an_attack_that_fails_costs_none_of_the_others(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    class Broken(nb.attacks()["fgsm"]):  # type: ignore[misc]
        def examples(self, *arguments: Any) -> Any:
            raise KeyError("a bug")

    with pytest.warns(RuntimeWarning, match="attack fgsm failed: KeyError: 'a bug'"):
        found = nb.evaluate(model, images, labels, attacks=["noise", Broken(), "bim[eps=4/255,steps=2]"])
    assert [a.attack for a in found.attacks] == ["noise", "bim[steps=2]"]
    assert found.failed == {"fgsm": "KeyError: 'a bug'"}
    assert (found.curves, found.health) == ((), ())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "standardised": ({"images": torch.randn(COUNT, 3, 8, 8)}, r"look standardised.*Normalize\(mean, std\), model"),
    "to 255": ({"images": torch.rand(COUNT, 3, 8, 8) * 255}, "images / 255 makes of pixels that count to 255"),
    "cut to 0 and 1": ({"images": torch.rand(COUNT, 3, 8, 8).round().byte()}, "hold nothing above 1"),
    "not finite": ({"images": torch.full((COUNT, 3, 8, 8), torch.nan)}, "some pixels are not finite"),
    "channels last": ({"images": torch.rand(COUNT, 8, 8, 3)}, r"\(40, 8, 8, 3\).*movedim\(-1, 1\)"),
    "one image": ({"images": torch.rand(3, 8, 8)}, r"expected \(N, C, H, W\), found shape \(3, 8, 8\)"),
    "no images": ({"images": torch.rand(0, 3, 8, 8), "labels": []}, r"found shape \(0, 3, 8, 8\)"),
    "text": ({"images": "cifar10"}, "images: expected a tensor or an array, found str"),
    "int64": ({"images": torch.ones(COUNT, 3, 8, 8, dtype=torch.int64)}, r"or uint8, found torch\.int64"),
    "another size": ({"images": torch.rand(COUNT, 3, 9, 9)}, "Sequential cannot take 3x9x9 images"),
    "few labels": ({"labels": [0, 1]}, r"one class number for each of 40 images, found shape \(2,\)"),
    "one-hot": ({"labels": np.eye(5, dtype=int)[[0] * COUNT]}, r"found shape \(40, 5\)"),
    "float labels": ({"labels": torch.zeros(COUNT)}, r"expected class numbers, found torch\.float32"),
    "a class more": ({"labels": [5] * COUNT}, "tells 5 classes apart: expected 0 to 4"),
    "negative": ({"labels": [-1] * COUNT}, "class numbers from -1 to -1"),
    "no network": ({"model": "resnet18"}, "expected an nn.Module as the network, found str"),
    "half": ({"model": nn.Conv2d(3, 5, 8).half()}, r"in torch\.float16; .* model\.float\(\)"),
    "maps": ({"model": nn.Conv2d(3, 5, 3)}, r"gives \(2, 5, 6, 6\) for 2 images, not logits \(2, classes\)"),
    "NaN": ({"model": Nan()}, "Nan: the logits are not finite"),
    "unknown attack": ({"attacks": ["bimm"]}, "did you mean 'bim'"),
    "its parameter": ({"attacks": "bim[esp=2/255]"}, "did you mean 'eps'"),
    "its size": ({"attacks": "bim[eps=8]"}, "less than or equal to 1"),
    "no attack": ({"attacks": [8]}, "attacks: expected texts such as"),
    "two in one": ({"attacks": {"bim": {}, "pgd": {}}}, "attacks: expected texts such as"),
    "without files": ({"attacks": ["noise", "cifar10-c"]}, r"cifar10-c: expected .*gaussian_noise\.npy"),
    "no folder": ({"data": "/nowhere"}, "`data` /nowhere: there is no such folder"),
    "no batch": ({"batch_size": 0}, "batch_size: expected a whole number, 1 or more, found 0"),
    "seed": ({"seed": "0"}, "seed: expected a whole number, 0 or more, found '0'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_would_give_other_numbers_is_refused(
    case: str, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    changes, message = BAD[case]
    with pytest.raises(nb.BenchError, match=message):
        nb.evaluate(**{"model": model, "images": images, "labels": labels} | changes)
