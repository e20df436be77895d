"""How each family of networks takes a stem for small images and a width."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from benchmark.architectures import file_of
from benchmark.lab.models.construct import Request


class Family:
    """A family takes timm's network as it is; a subclass changes what its stem and width need."""

    def arguments(self, cls: type[nn.Module], given: dict[str, Any], request: Request) -> dict[str, Any]:
        """Constructor arguments of `cls`, changed. `given`: those that timm's entry point would pass."""
        return given

    def create(self, request: Request, kwargs: dict[str, Any]) -> nn.Module:
        """Build the network; its constructor's arguments come through `arguments`."""
        model: nn.Module = timm.create_model(request.name, **kwargs)
        return model

    def finish(self, model: nn.Module, request: Request) -> None:
        """Change the built network in place."""


class ResNetFamily(Family):
    """`timm.models.resnet.ResNet`: a 3x3 stem of stride 1 without pooling (He et al. 2016, section 4.2), and `channels` times the width.

    timm builds 64 stem channels whatever the width, unless the stem is deep: so a deep stem of the right width is asked for, and a single
    convolution put in its place.
    """

    def arguments(self, cls: type[nn.Module], given: dict[str, Any], request: Request) -> dict[str, Any]:
        given = dict(given)
        deep = "deep" in given.get("stem_type", "")
        stem = request.scaled(2 * given.get("stem_width", 64) if deep else 64)
        if request.width != 1:
            given["channels"] = tuple(request.scaled(c) for c in given.get("channels") or (64, 128, 256, 512))
        if request.width != 1 or request.stem == "cifar":
            given.update(stem_width=stem // 2, stem_type=given.get("stem_type") if deep and request.stem == "native" else "deep")
        return given

    def finish(self, model: Any, request: Request) -> None:
        deep = isinstance(model.conv1, nn.Sequential)
        if request.stem == "cifar":
            model.conv1 = _he(nn.Conv2d(request.channels, model.bn1.num_features, 3, 1, 1, bias=False))
            model.maxpool = nn.Identity()
        elif request.width != 1 and deep and not self._deep_by_design(request):
            model.conv1 = _he(nn.Conv2d(request.channels, model.bn1.num_features, 7, 2, 3, bias=False))

    def _deep_by_design(self, request: Request) -> bool:
        return isinstance(timm.create_model(request.name, device="meta").conv1, nn.Sequential)


def _he(conv: nn.Conv2d) -> nn.Conv2d:
    """The initialization of timm's ResNets."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


FAMILIES: dict[str, Family] = {"resnet": ResNetFamily()}


def family_of(request: Request) -> Family:
    """The family of an architecture; plain timm where neither stem nor width ask for anything."""
    return Family() if request.stem == "native" and request.width == 1 else FAMILIES[file_of(request.name)]
