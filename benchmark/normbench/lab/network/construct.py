"""Builds a timm model with another stem or width.

Many of timm's entry points fix constructor arguments (a patch size, a channel multiplier), and passing them again is an
error. Each entry point ends in one call of `build_model_with_cfg(class, variant, ...)`; here the class is exchanged,
for the time of that call, by a function that lets a family edit the constructor's arguments first.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import timm
from torch import nn

from normbench.lab.network.families import FAMILIES, Family
from normbench.lab.network.request import ModelError, Request
from normbench.lab.network.wrn import WideResNet
from normbench.spec.architectures import problem_with


def construct(request: Request) -> nn.Module:
    """The network, freshly initialized from torch's global random state. Raises `ModelError`."""
    if problem := problem_with(request.name, request.stem, request.width):
        raise ModelError(problem)
    if wide := WideResNet.parse(request):
        return wide.build(request)
    family = Family() if request.stem == "native" and request.width == 1 else FAMILIES[request.file]
    seen: dict[str, Any] = {}

    def edit(cls: type[nn.Module], given: dict[str, Any]) -> dict[str, Any]:
        if "img_size" in inspect.signature(cls).parameters and "img_size" not in request.kwargs:
            given = {**given, "img_size": request.image_size}
        seen.update(given)
        return family.arguments(given, request)

    try:
        with _editing(edit), family.building(request):
            network: nn.Module = timm.create_model(
                request.name, **{"num_classes": request.classes, "in_chans": request.channels, **request.kwargs}
            )
        family.finish(network, seen, request)
    except (TypeError, AssertionError, ArithmeticError, ValueError, RuntimeError, LookupError) as error:
        raise ModelError(f"{request}: timm cannot build this: {type(error).__name__}: {error}") from error
    return network


@contextmanager
def _editing(edit: Callable[[type[nn.Module], dict[str, Any]], dict[str, Any]]) -> Iterator[None]:
    """While open, constructor arguments of timm models pass through `edit`."""
    original = timm.models.build_model_with_cfg

    def edited(model_cls: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        def make(**given: Any) -> nn.Module:
            return model_cls(**edit(model_cls, given))

        model: nn.Module = original(make, *args, **kwargs)
        return model

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("timm.models.") and getattr(module, "build_model_with_cfg", None) is original:
                stack.enter_context(patch.object(module, "build_model_with_cfg", edited))
        yield
