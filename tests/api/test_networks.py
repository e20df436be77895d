"""`swap` and `layer` on networks that people have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import normbench as nb
import pytest
import timm
import torch
import torchvision
from torch import nn


def own(channels: int = 12) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), nn.Linear(channels * 36, 5)
    )


IMAGES = torch.zeros(2, 3, 8, 8)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    # The network, the side of its images, how many norms it has, how many weights feed one of them directly.
    "torchvision": (lambda: torchvision.models.resnet18(num_classes=10), 32, 20, 20),
    "timm": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=10), 32, 5, 0),
    "own": (own, 8, 1, 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_norm_is_replaced_and_told(name: str) -> None:
    make, side, norms, fed = NETWORKS[name]
    model, example = make(), torch.rand(2, 3, side, side)
    report = nb.swap(model, "ws+rms", example)
    assert (len(report.replaced), len(report.wrapped)) == (norms, fed)
    left = {type(module).__name__ for module in model.modules()}
    assert not left & {place.before for place in report.replaced}
    assert model(example).isfinite().all()
    assert repr(report).startswith(f"{norms} norms replaced, {fed} weights reparametrized")
    assert all(f"kept {kept.name}" in str(report) for kept in report.kept)


def test_device_dtype_mode_and_what_is_trained_stay() -> None:
    model = own().double().eval()
    model[1].weight.requires_grad_(False)
    nb.swap(model, "gn[groups=4]", IMAGES.double())
    assert isinstance(model[1], nn.GroupNorm)
    assert model[1].weight.dtype == torch.float64
    assert not model[1].training
    assert (model[1].weight.requires_grad, model[1].bias.requires_grad) == (False, True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_layers_are_built_on_the_network_s_device() -> None:
    model = own().cuda()
    nb.swap(model, "ws+bw-zca", IMAGES.cuda())
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cuda"}
    assert model(IMAGES.cuda()).isfinite().all()


BAD_SWAPS: dict[str, tuple[Callable[[], Any], str, Any, str]] = {
    "no network": (lambda: "resnet18", "gn", IMAGES, "expected an nn.Module as the network, found str"),
    "no text": (own, nn.GroupNorm(1, 12), IMAGES, "expected a method as text.*found GroupNorm"),
    "unknown": (own, "grupnorm", IMAGES, "did you mean 'gn'"),
    "a parameter": (own, "gn[group=2]", IMAGES, "did you mean 'groups'"),
    "a shape": (own, "gn", (2, 3, 8, 8), r"expected a tensor as the example.*found tuple"),
    "no example": (own, "gn", torch.zeros(0, 3, 8, 8), r"found one of shape \(0, 3, 8, 8\)"),
    "another size": (own, "gn", torch.zeros(2, 3, 9, 9), "Sequential cannot run 3x9x9 images"),
    "no norm": (lambda: nn.Linear(3, 3), "gn", IMAGES, "there is no normalization layer to replace"),
    "itself a norm": (lambda: nn.BatchNorm2d(3), "gn", IMAGES, "is itself one BatchNorm2d"),
    "impossible": (own, "ws+gn[groups=5]", IMAGES, "1: 5 groups do not divide 12 channels; the nearest.* is 4"),
    "no branch": (own, "ws+skipinit", IMAGES, "no residual branch of Sequential ends in"),
}


@pytest.mark.parametrize("case", BAD_SWAPS)
def test_a_swap_that_fails_says_why_and_changes_nothing(case: str) -> None:
    make, norm, example, message = BAD_SWAPS[case]
    model = make()
    before = str(model), [type(m) for m in model.modules()] if isinstance(model, nn.Module) else []
    with pytest.raises(nb.BenchError, match=message) as told:
        nb.swap(model, norm, example)
    assert "\n" not in str(told.value)
    assert before == (str(model), [type(m) for m in model.modules()] if isinstance(model, nn.Module) else [])


@pytest.mark.parametrize("name", nb.norms())
def test_a_layer_keeps_the_shape_or_says_that_it_is_none(name: str) -> None:
    from normbench.norms import ActivationNorm

    if issubclass(nb.norms()[name], ActivationNorm):
        made = nb.layer(name, 32)
        assert made(torch.randn(4, 32, 6, 6)).shape == (4, 32, 6, 6)
    else:
        with pytest.raises(nb.BenchError, match=r"is no layer of its own|must be named, for example bn"):
            nb.layer(name, 32)


def test_a_layer_has_what_was_asked_for() -> None:
    made = nb.layer("gn[groups=8]", 64, eps=1e-3)
    assert isinstance(made, nn.GroupNorm)
    assert (made.num_groups, made.num_channels, made.eps) == (8, 64, 1e-3)
    assert nb.layer("bn+noise", 8).norm.num_features == 8
    assert nb.layer("bn", 8, affine=False, momentum=0.5).momentum == 0.5


BAD_LAYERS: dict[str, tuple[Any, Any, str]] = {
    "swapped": (64, "gn", "expected a method as text.*found int"),
    "none": ("gn", 0, "expected a number of channels, 1 or more, found 0"),
    "text": ("gn", "64", "expected a number of channels, 1 or more, found '64'"),
    "truth": ("gn", True, "found True"),
    "groups": ("gn[groups=7]", 64, "7 groups do not divide 64 channels"),
    "weights": ("ws+gn", 64, r"ws changes the weights.*normbench.swap\(model, 'ws\+gn', example\)"),
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_a_layer_that_cannot_be_built_says_why(case: str) -> None:
    norm, channels, message = BAD_LAYERS[case]
    with pytest.raises(nb.BenchError, match=message):
        nb.layer(norm, channels)
