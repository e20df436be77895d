"""How each family of networks takes a stem for small images and a width.

The stems leave maps of 32, 16, 8 and 4 pixels at 32x32 images (He et al. 2016, section 4.2, do so for ResNets);
transformers and mixers see 8x8 patches (Swin: 16x16, halved three times).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

from timm.layers import ClassifierHead, GroupNorm, GroupNormAct
from timm.models import regnet
from torch import nn

from normbench.lab.network.request import Request
from normbench.lab.network.surgery import destride, he_normal, restem
from normbench.norms.gn import default_groups


class Family:
    """A family takes timm's network as it is; a subclass changes what its stem and width need."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        """Constructor arguments, changed. `given`: those that timm's entry point would pass."""
        return given

    def building(self, request: Request) -> AbstractContextManager[object]:
        """What must hold while timm builds the network."""
        return nullcontext()

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        """Change the built network in place. `given`: as above."""


def any_groups(norm_layer: Any) -> Any:
    """timm's group norms with a number of groups that divides whatever channels come; any other norm as it is."""
    layer = norm_layer.func if isinstance(norm_layer, partial) else norm_layer
    layer = GroupNorm if layer == "groupnorm" else layer
    if layer not in (GroupNorm, GroupNormAct):
        return norm_layer

    def make(channels: int, **kwargs: Any) -> nn.Module:
        made: nn.Module = layer(channels, **{**kwargs, "num_groups": default_groups(channels)})
        return made

    return make


class ResNetFamily(Family):
    """`channels` times the width; a 3x3 stem of stride 1 without pooling.

    timm builds 64 stem channels whatever the width, unless the stem is deep: so a deep stem of the right width is asked
    for, and a single convolution put in its place.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        deep = "deep" in given.get("stem_type", "")
        stem = request.scaled(2 * given.get("stem_width", 64) if deep else 64)
        channels = tuple(request.scaled(c) for c in given.get("channels") or (64, 128, 256, 512))
        kept = deep and request.stem == "native"
        return {
            **given,
            "channels": channels,
            "stem_width": stem // 2,
            "stem_type": given["stem_type"] if kept else "deep",
            "replace_stem_pool": request.stem == "native" and given.get("replace_stem_pool", False),
            "norm_layer": any_groups(given.get("norm_layer", nn.BatchNorm2d)),
        }

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "native" and "deep" in given.get("stem_type", ""):
            return
        cifar = request.stem == "cifar"
        conv = nn.Conv2d(
            request.channels,
            model.feature_info[0]["num_chs"],
            3 if cifar else 7,
            1 if cifar else 2,
            1 if cifar else 3,
            bias=False,
        )
        he_normal(conv.weight)
        model.conv1 = conv
        if cifar:
            model.maxpool = nn.Identity()


class ResNetV2Family(Family):
    """timm's `width_factor`; a 3x3 stem of stride 1 without pooling."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        stem = {"stem_type": ""} if request.stem == "cifar" else {}
        norm = any_groups(given.get("norm_layer", GroupNormAct))
        return {**given, **stem, "width_factor": given.get("width_factor", 1) * request.width, "norm_layer": norm}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            restem(model.stem.conv, kernel=3, init=he_normal)
            model.stem.pool = nn.Identity()


class VggFamily(Family):
    """The channel list times the width; on small images the last map goes straight into the classifier (the two layers
    of 4096 see 7x7 maps).
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        return {**given, "cfg": [c if c == "M" else request.scaled(c) for c in given["cfg"]]}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            model.pre_logits = nn.Identity()
            model.head_hidden_size = model.num_features
            model.head = ClassifierHead(
                model.num_features,
                request.classes,
                pool_type=given.get("global_pool", "avg"),
                drop_rate=given.get("drop_rate", 0.0),
            )
            nn.init.normal_(model.head.fc.weight, 0, 0.01)
            nn.init.zeros_(model.head.fc.bias)


class DenseNetFamily(Family):
    """The growth rate times the width, which the stem follows; a 3x3 stem of stride 1 without pooling."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        stem = {"stem_type": ""} if request.stem == "cifar" else {}
        return {**given, **stem, "growth_rate": request.scaled(given.get("growth_rate", 32))}

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            restem(model.features.conv0, kernel=3, init=nn.init.kaiming_normal_)
            model.features.pool0 = nn.Identity()


class RegNetFamily(Family):
    """The width of every stage, the stem and the head times the width, group sizes as they are; stem and first stage of
    stride 1.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        cfg = given["cfg"]
        head = request.scaled(cfg.num_features, 8) if cfg.num_features else 0
        return {**given, "cfg": replace(cfg, stem_width=request.scaled(cfg.stem_width, 8), num_features=head)}

    def building(self, request: Request) -> AbstractContextManager[object]:
        original = regnet.generate_regnet

        def generate(*args: Any, **kwargs: Any) -> tuple[list[int], int, list[int]]:
            widths, stages, groups = original(*args, **kwargs)
            return [request.scaled(w, 8) for w in widths], stages, groups

        return patch.object(regnet, "generate_regnet", generate)

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(nn.ModuleList([model.stem, model.s1]))


class MobileFamily(Family):
    """Networks of inverted residuals: every number of channels times the width, rounded as timm does; stem and first
    strided stage of stride 1.
    """

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        given = dict(given)
        if request.width != 1:
            rounding: Callable[..., int] = given["round_chs_fn"]
            given["round_chs_fn"] = lambda channels, **kwargs: rounding(channels * request.width, **kwargs)
            given["num_features"] = request.scaled(given.get("num_features", 1280), 8)
            if given.get("fix_stem"):
                given["stem_size"] = request.scaled(given.get("stem_size", 32), 8)
        if request.stem == "cifar":
            blocks = copy.deepcopy(given["block_args"])
            strided = next((block for stage in blocks for block in stage if block.get("stride", 1) > 1), None)
            if strided is not None:
                strided["stride"] = 1
            given["block_args"] = blocks
        return given

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(model.conv_stem)


class ConvNeXtFamily(Family):
    """`dims` times the width; a stem of stride 1."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        given = {**given, "dims": tuple(request.scaled(d) for d in given.get("dims", (96, 192, 384, 768)))}
        if given.get("head_hidden_size"):
            given["head_hidden_size"] = request.scaled(given["head_hidden_size"])
        if request.stem == "cifar" and given.get("stem_type", "patch") == "patch":
            given["patch_size"] = 1
        return given

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        if request.stem == "cifar":
            destride(model.stem)


class PatchFamily(Family):
    """`embed_dim` times the width, a multiple of the heads; patches of an eighth of the image."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        heads = given.get("num_heads", 12) if "num_blocks" not in given else 2
        given = {**given, "embed_dim": request.scaled(given.get("embed_dim", 768), 4 * heads)}
        if request.stem == "cifar":
            given["patch_size"] = max(1, request.image_size // 8)
        return given


class SwinFamily(Family):
    """`embed_dim` times the width, a multiple of the heads; patches of a sixteenth of the image, windows of 4x4."""

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        heads = given.get("num_heads", (3, 6, 12, 24))
        given = {**given, "embed_dim": request.scaled(given.get("embed_dim", 96), 4 * heads[0])}
        if request.stem == "cifar":
            given.update(patch_size=max(1, request.image_size // 16), window_size=4)
        return given


_resnet, _patches, _mobile = ResNetFamily(), PatchFamily(), MobileFamily()

#: By file of `timm.models`; `normbench.spec.architectures.FAMILIES` names the same ones.
FAMILIES: dict[str, Family] = {
    "resnet": _resnet,
    "resnest": _resnet,
    "res2net": _resnet,
    "sknet": _resnet,
    "resnetv2": ResNetV2Family(),
    "vgg": VggFamily(),
    "densenet": DenseNetFamily(),
    "regnet": RegNetFamily(),
    "efficientnet": _mobile,
    "mobilenetv3": _mobile,
    "convnext": ConvNeXtFamily(),
    "vision_transformer": _patches,
    "deit": _patches,
    "mlp_mixer": _patches,
    "swin_transformer": SwinFamily(),
}
