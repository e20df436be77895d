"""How a family of networks is built: by timm, with what a stem for small images and a width need."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import timm
from timm.layers import GroupNorm, GroupNormAct
from torch import nn

from normbench.lab.network._timm import edited
from normbench.lab.network.request import Request
from normbench.norms._groups import default_groups


class Family:
    """Builds a network as timm does; a subclass changes what its stem and width need."""

    def build(self, request: Request) -> nn.Module:
        """The network, freshly initialized from torch's global random state."""
        seen: dict[str, Any] = {}

        def edit(cls: type[nn.Module], given: dict[str, Any]) -> dict[str, Any]:
            if "img_size" in inspect.signature(cls).parameters and "img_size" not in request.kwargs:
                given = {**given, "img_size": request.image_size}
            seen.update(given)
            return self.arguments(given, request)

        with edited(edit), self.building(request):
            arguments = {"num_classes": request.classes, "in_chans": request.channels, **request.kwargs}
            network: nn.Module = timm.create_model(request.name, **arguments)
        self.finish(network, seen, request)
        return network

    def arguments(self, given: dict[str, Any], request: Request) -> dict[str, Any]:
        """Constructor arguments, changed. `given`: those that timm's entry point would pass."""
        return given

    def building(self, request: Request) -> AbstractContextManager[object]:
        """What must hold while timm builds the network."""
        return nullcontext()

    def finish(self, model: Any, given: dict[str, Any], request: Request) -> None:
        """Change the built network in place. `given`: as above."""


#: timm's networks as they are.
FAMILY = Family()


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
