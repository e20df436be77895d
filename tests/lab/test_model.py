"""Networks of trials: stems, widths, seeds, pixel space."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.build import PixelModel, build
from normbench.lab.network.surgery import destride
from normbench.norms import resolve
from normbench.spec.architectures import FAMILIES
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from torch import nn

#: One of every family, with its parameters in millions at width 1 and 10 classes (of the literature where it says:
#: WRN-28-10 36.5, VGG-A 9.2, ResNet-18 11.2).
ONE_OF_EACH = {
    "resnet18": 11.17,
    "resnet50": 23.52,
    "resnext50_32x4d": 22.99,
    "resnet50d": 23.52,
    "resnest14d": 8.56,
    "res2net50_26w_4s": 23.66,
    "skresnet18": 11.44,
    "resnetv2_18": 11.17,
    "resnetv2_50d_gn": 23.51,
    "wrn-16-4": 2.75,
    "resnet20": 0.27,
    "vgg11_bn": 9.23,
    "densenet121": 6.96,
    "regnetx_002": 2.32,
    "regnety_002": 2.80,
    "efficientnet_b0": 4.02,
    "mobilenetv2_100": 2.24,
    "mobilenetv3_small_050": 0.58,
    "convnext_atto": 3.38,
    "convnext_atto_ols": 3.39,
    "vit_tiny_patch16_224": 5.36,
    "deit_tiny_patch16_224": 5.36,
    "mixer_s32_224": 17.11,
    "swin_tiny_patch4_window7_224": 27.51,
}


def network(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return construct(Request(**{"name": name, **changes}))


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def maps(model: nn.Module, side: int, channels: int = 3) -> list[int]:
    """Sides of the maps behind convolutions, largest first, without those of squeezes and heads."""
    seen: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: seen.add(out.shape[-1]))
    with torch.no_grad():
        assert model.eval()(torch.rand(2, channels, side, side)).shape == (2, 10)
    return sorted(seen - {1}, reverse=True)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_stems_and_widths(name: str) -> None:
    with torch.device("meta"):
        full = count(construct(Request(name=name)))
    assert full / 1e6 == pytest.approx(ONE_OF_EACH[name], abs=0.006)
    narrow = network(name, width=0.25)
    expected = {
        "vgg11_bn": [32, 16, 8, 4, 2],
        "wrn-16-4": [32, 16, 8],
        "resnet20": [32, 16, 8],
        "swin_tiny_patch4_window7_224": [16],
    }
    patches = {"vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224"}
    assert maps(narrow, 32) == ([8] if name in patches else expected.get(name, [32, 16, 8, 4]))
    assert full / 25 < count(narrow) < full / 5


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet18d", "resnetv2_18", "regnetx_002", "mobilenetv2_100", "vit_tiny_patch16_224", "vgg11_bn"],
)
def test_native_stems_take_a_width(name: str) -> None:
    narrow = network(name, stem="native", width=0.25, image_size=64)
    assert narrow.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 10)
    assert count(narrow) < count(timm.create_model(name, num_classes=10)) / 2.5


def test_every_family_is_tried() -> None:
    files = {Request(name=n).file for n in ONE_OF_EACH}
    assert files == {*FAMILIES, "wrn", "cifar_resnet"}


def test_the_stem_follows_the_width() -> None:
    for width, channels in ((0.125, 8), (0.25, 16), (1, 64), (2, 128)):
        model: Any = network("resnet18", width=width)
        assert (
            model.conv1.out_channels,
            model.bn1.num_features,
            model.layer1[0].conv1.in_channels,
            model.layer4[1].conv2.out_channels,
        ) == (
            *[channels] * 3,
            channels * 8,
        )
        assert model.conv1.kernel_size == (3, 3)
        assert model.layer1[0].downsample is None
    assert network("wrn-28-10", width=0.5).get_submodule("stem.conv").out_channels == 8


def test_strides_and_pooling_go_from_a_stem_wherever_they_stand() -> None:
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), pool, nn.Sequential(pool, nn.AvgPool2d(2), nn.ReLU()))
    destride(stem)
    assert stem(torch.rand(1, 3, 8, 8)).shape == (1, 4, 8, 8)
    assert [type(m) for m in (stem[1], *stem[2])] == [nn.Identity, nn.Identity, nn.Identity, nn.ReLU]


def test_new_convolutions_are_initialized_as_timms() -> None:
    """He's normal initialization by fan-out: variance 2 / (9 * channels)."""
    weight = network("resnet18", width=4).get_parameter("conv1.weight")
    assert float(weight.detach().var()) == pytest.approx(2 / (9 * 256), rel=0.05)


def test_plain_networks_are_timms() -> None:
    model = network("resnet18", stem="native")
    torch.manual_seed(0)
    reference = timm.create_model("resnet18", num_classes=10)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), reference.state_dict().values(), strict=True)
    )


def test_grey_images_and_other_sizes() -> None:
    assert maps(network("resnet18", width=0.25, channels=1), 16, channels=1) == [16, 8, 4, 2]
    assert maps(network("vit_tiny_patch16_224", width=0.25, image_size=16), 16) == [8]
    assert maps(network("convnext_atto", width=0.25, image_size=8), 8) == [8, 4, 2]


def test_what_cannot_be_built_says_why() -> None:
    for name, changes, message in [
        ("resnet_18", {}, "did you mean 'resnet18'"),
        ("levit_128s", {}, "write `stem: native`"),
        ("levit_128s", {"stem": "native", "width": 0.5}, r"write `widths: \[1\]`"),
        (
            "resnet18",
            {"kwargs": {"no_such": 1}},
            "resnet18, stem cifar, width 1, 3x32x32 images: timm cannot build this: TypeError.*no_such",
        ),
        ("senet154", {"width": 0.25}, "senet154, stem cifar, width 0.25"),
    ]:
        with pytest.raises(ModelError, match=message):
            network(name, **changes)


def test_the_builder_leaves_timm_alone() -> None:
    original = timm.models.resnet.build_model_with_cfg
    network("resnet18", width=0.25)
    network("regnetx_002", width=0.25)
    with pytest.raises(ModelError):
        network("resnet18", kwargs={"no_such": 1})
    assert timm.models.resnet.build_model_with_cfg is original
    assert timm.models.regnet.generate_regnet.__module__ == "timm.models.regnet"


def trial(norm: str, seed: int = 3) -> Trial:
    label, components = resolve(norm)
    return Trial(
        data=DataSpec(dataset="digits"),
        model=ModelSpec(name="resnet18", width=0.125),
        norm=components,
        norm_label=label,
        batch_size=8,
        seed=seed,
        train=TrainSpec(),
    )


def built(norm: str, seed: int = 3) -> Any:
    return build(trial(norm, seed), channels=1, image_size=16, classes=10, mean=[0.3], std=[0.2])


def test_every_norm_starts_from_the_same_weights() -> None:
    reference = {k: v for k, v in built("bn")[0].network.state_dict().items() if "conv" in k or "fc" in k}
    assert len(reference) == 19
    for norm in ("ln", "gn", "none", "bw-zca", "evonorm-s0"):
        state = built(norm)[0].network.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in reference.items()), norm
    wrapped = built("sn+gn")[0].network.state_dict()
    assert torch.equal(reference["layer1.0.conv1.weight"], wrapped["layer1.0.conv1.parametrizations.weight.original"])
    assert not torch.equal(reference["conv1.weight"], built("bn", seed=4)[0].network.state_dict()["conv1.weight"])


def test_built_twice_is_the_same() -> None:
    one, other = built("sn+bn")[0], built("sn+bn")[0]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_audit_comes_along() -> None:
    audit = built("ws+gn")[1]
    assert (len(audit.replaced), len(audit.wrapped), audit.weights, len(audit.scale_invariant)) == (20, 20, 21, 20)
    assert type(audit).model_validate_json(audit.model_dump_json()) == audit


def test_pixel_space() -> None:
    images = torch.rand(4, 2, 3, 3)
    model = PixelModel(nn.Flatten(), mean=[0.1, 0.2], std=[0.5, 0.25])
    expected = torch.stack([(images[:, 0] - 0.1) / 0.5, (images[:, 1] - 0.2) / 0.25], 1).flatten(1)
    assert torch.allclose(model(images), expected)
    assert set(model.state_dict()) == {"mean", "std"}
    for mean, std in (([0.1], [0.5, 0.5]), ([0.1], [0.0])):
        with pytest.raises(ValueError, match="one mean and one positive std"):
            PixelModel(nn.Flatten(), mean=mean, std=std)
