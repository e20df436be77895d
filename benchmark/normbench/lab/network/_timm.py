"""The one place that reaches into timm: it exchanges a name of timm's modules while a network is built.

Many of timm's entry points fix constructor arguments (a patch size, a channel multiplier), and passing them again is
an error. Each entry point ends in one call of `build_model_with_cfg(class, variant, ...)`. timm has no public way to
change what that call passes on, so the function is exchanged for the time of one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import timm
from torch import nn

#: Gets a class of networks and the constructor arguments that timm would pass, and returns those to pass.
Edit = Callable[[type[nn.Module], dict[str, Any]], dict[str, Any]]


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """While open, `module.name` is `value`. Raises `AttributeError` where timm has no such name any more."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def edited(edit: Edit) -> Iterator[None]:
    """While open, constructor arguments of timm's networks pass through `edit`."""
    original = timm.models.build_model_with_cfg

    def build(model_cls: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        def make(**given: Any) -> nn.Module:
            return model_cls(**edit(model_cls, given))

        model: nn.Module = original(make, *args, **kwargs)
        return model

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("timm.models.") and getattr(module, "build_model_with_cfg", None) is original:
                stack.enter_context(replaced(module, "build_model_with_cfg", build))
        yield
