"""Normalization that lives inside a forward, where no module stands for it: found by watching a network run.

A swap replaces modules. What a module's own forward normalizes (queries and keys of an attention, the weight of a
standardized convolution) it neither replaces nor sees; the audit lists it as kept, with what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from normbench.lab.network.swap import LeftAlone, kind

#: Functions that normalize, and what they do.
FUNCTIONS = {
    functional.normalize: "vectors of length 1 (normalize)",
    functional.cosine_similarity: "vectors of length 1 (cosine similarity)",
    functional.batch_norm: "batch norm",
    functional.layer_norm: "layer norm",
    functional.group_norm: "group norm",
    functional.instance_norm: "instance norm",
    functional.rms_norm: "root mean square norm",
    functional.local_response_norm: "local response norm",
}
#: Modules that normalize by arithmetic alone, which no function tells.
BY_CLASS = {"FrozenBatchNorm2d": "batch norm with frozen statistics: an affine map of constants"}


class _Watch(TorchFunctionMode):
    """Notes the functions that normalize, by the module whose forward calls them."""

    def __init__(self, stack: list[tuple[str, nn.Module]], found: dict[str, LeftAlone]) -> None:
        super().__init__()
        self.stack = stack
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FUNCTIONS and self.stack and self.stack[-1][0] not in self.found:
            name, module = self.stack[-1]
            given = args[0] if args else None
            what = FUNCTIONS[func]
            own = {p.untyped_storage().data_ptr() for p in module.parameters(recurse=False)}
            if isinstance(given, torch.Tensor) and given.untyped_storage().data_ptr() in own:
                reason = "weight standardization inside its forward"
            else:
                reason = f"normalizes inside its forward: {what}"
            self.found[name] = LeftAlone(name=name, layer=type(module).__name__, reason=reason)
        return func(*args, **(kwargs or {}))


@contextmanager
def watching(model: nn.Module, known: Collection[str] = ()) -> Iterator[list[LeftAlone]]:
    """Fills a list with what normalizes inside forwards of `model` while it runs within the block, in the order of the
    network. known: names of modules that are accounted for, with all that they hold; norms that are modules are too.
    """
    seen: list[LeftAlone] = []
    found: dict[str, LeftAlone] = {}
    stack: list[tuple[str, nn.Module]] = []
    handles = []
    named = {
        name: module
        for name, module in model.named_modules()
        if kind(module) is None and not any(name == k or name.startswith(f"{k}.") for k in known)
    }
    for name, module in model.named_modules():
        entry = (name, module)
        # ahead of hooks of the method's own, whose calls are the module's too
        handles.append(module.register_forward_pre_hook(lambda _m, _a, entry=entry: stack.append(entry), prepend=True))
        handles.append(module.register_forward_hook(lambda _m, _a, _o: stack.pop() and None, always_call=True))
    try:
        with _Watch(stack, found):
            yield seen
    finally:
        for handle in handles:
            handle.remove()
    classes = {
        name: LeftAlone(name=name, layer=type(m).__name__, reason=BY_CLASS[type(m).__name__])
        for name, m in named.items()
        if type(m).__name__ in BY_CLASS
    }
    seen.extend(made for name in named if (made := classes.get(name) or found.get(name)))
