"""Builds a timm model with another stem or width.

Many of timm's entry points fix constructor arguments (a patch size, a channel multiplier), and passing them again is an error. Each entry point
ends in one call of `build_model_with_cfg(class, variant, ...)`; here the class is exchanged, for the time of that call, by a function that lets a family edit the
constructor's arguments first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import timm
from torch import nn

from benchmark.architectures import stem_problem, unknown, width_problem


class ModelError(ValueError):
    """An architecture cannot be built as asked."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to build. `channels`: of the images. `width`: multiplier of the channel numbers."""

    name: str
    stem: str = "cifar"
    width: float = 1.0
    channels: int = 3
    image_size: int = 32
    classes: int = 10
    kwargs: dict[str, Any] = field(default_factory=dict)

    def scaled(self, channels: int, multiple: int = 4) -> int:
        """A number of channels times the width, rounded to `multiple`; unchanged at width 1."""
        return channels if self.width == 1 else max(multiple, round(channels * self.width / multiple) * multiple)


def construct(request: Request) -> nn.Module:
    """The network, freshly initialized from torch's global random state. Raises `ModelError`."""
    from benchmark.lab.models.families import family_of

    problem = unknown(request.name) or stem_problem(request.name, request.stem) or width_problem(request.name, request.width)
    if problem:
        raise ModelError(problem)
    family = family_of(request)
    kwargs = {"num_classes": request.classes, "in_chans": request.channels, **request.kwargs}
    try:
        with _editing(lambda cls, given: family.arguments(cls, given, request)):
            network = family.create(request, kwargs)
        family.finish(network, request)
    except (TypeError, AssertionError, ZeroDivisionError, ValueError, RuntimeError) as error:
        what = f"{request.name}, stem {request.stem}, width {request.width:g}, {request.channels}x{request.image_size}x{request.image_size} images"
        raise ModelError(f"{what}: timm refuses: {type(error).__name__}: {error}") from error
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
