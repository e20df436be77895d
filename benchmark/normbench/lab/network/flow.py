"""Finds what flows into and out of the norms of a network, by running an example through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from normbench.tensors.layers import WEIGHTED
from normbench.tensors.private import tensors_in, writes
from normbench.tensors.snapshot import in_mode

#: Modules whose place a norm with its own activation may take, by class name along the inheritance.
ACTIVATIONS = frozenset(
    [
        "ReLU",
        "ReLU6",
        "SiLU",
        "Swish",
        "GELU",
        "GELUTanh",
        "QuickGELU",
        "Hardswish",
        "HardSwish",
        "LeakyReLU",
        "ELU",
        "CELU",
        "SELU",
        "PReLU",
        "Mish",
    ]
)
_ADDITIONS = frozenset(["add", "add_", "__add__", "__iadd__", "__radd__"])
_PRODUCTS = frozenset(["mul", "mul_", "__mul__", "__imul__", "__rmul__"])
_MIXING = ("conv", "linear", "matmul", "__matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")


class FlowError(ValueError):
    """A network cannot run an example."""


class Branch(NamedTuple):
    """A residual branch: names of the convolutions and linear layers on it, and of those on the way around it, in the
    order in which they are run.
    """

    layers: tuple[str, ...]
    shortcut: tuple[str, ...]


@dataclass
class Flow:
    """What flows where. positions: for each norm, how many values of a channel of an example reach it. feeds: for each
    convolution or linear layer, the norm that takes its output directly. activations: for each norm, the activation
    that takes its output directly and takes nothing else. branches: by the norm that ends each. head: the convolution
    or linear layer whose output is the network's; empty where another layer makes it.
    """

    positions: dict[str, int] = field(default_factory=dict)
    feeds: dict[str, str] = field(default_factory=dict)
    activations: dict[str, str] = field(default_factory=dict)
    branches: dict[str, Branch] = field(default_factory=dict)
    head: str = ""

    @property
    def branch_ends(self) -> set[str]:
        """The norms that end a residual branch."""
        return set(self.branches)


class _Mark(NamedTuple):
    """What a tensor that depends on the example carries. depth: how many convolutions and products made it. norm: the
    last one since then. path: names of the convolutions and linear layers that made it.
    """

    depth: int = 0
    norm: str = ""
    path: tuple[str, ...] = ()


class _Origins:
    """Which module a tensor came from, by address, as long as nobody writes to it. Tensors are held, so no address is
    used twice.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, torch.Tensor, int]] = {}

    def add(self, name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self._known[output.data_ptr()] = (name, output, writes(output))

    def of(self, x: torch.Tensor) -> str | None:
        """The module whose whole output `x` holds, in any shape or order of axes; None where something was computed in
        between.
        """
        name, output, version = self._known.get(x.data_ptr(), ("", x, -1))
        return name if version == writes(output) == writes(x) and output.numel() == x.numel() else None


class _Marking(TorchFunctionMode):
    """Marks each tensor as `_Mark` says. Where two tensors of different depth are added, a residual branch ends.
    Parameters have no mark.
    """

    def __init__(self, branches: dict[str, Branch]) -> None:
        super().__init__()
        self.branches = branches

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [t for t in tensors_in((args, kwargs or {})) if hasattr(t, "_mark")]
        marks: list[_Mark] = [t._mark for t in inputs]
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if marks and name != "__get__":
            mark = max(marks, key=lambda m: m.depth)
            if (
                name in _ADDITIONS
                and len(marks) == 2
                and mark.norm
                and marks[0].depth != marks[1].depth
                and inputs[0].shape == inputs[1].shape
            ):
                self.branches.setdefault(mark.norm, _parting(mark.path, min(marks, key=lambda m: m.depth).path))
            if name in _PRODUCTS and not mark.norm:  # a gate (squeeze and excitation) is deeper than what it scales
                scaled = next((m for m in marks if m.norm), mark)
                mark = _Mark(mark.depth, scaled.norm, scaled.path)
            if name.startswith(_MIXING):
                mark = _Mark(mark.depth + 1, "", mark.path)
            for tensor in tensors_in(out):
                tensor._mark = mark  # type: ignore[attr-defined]
        return out


def _parting(deep: tuple[str, ...], short: tuple[str, ...]) -> Branch:
    """Two paths without what they have in common from the start."""
    common = next((i for i, (a, b) in enumerate(zip(deep, short, strict=False)) if a != b), min(len(deep), len(short)))
    return Branch(deep[common:], short[common:])


class _Hooks:
    """What is noted while an example runs through a network."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.weighted, self.normed = _Origins(), _Origins()
        self.calls: dict[str, list[str | None]] = {}
        """For each activation: the norms whose outputs its calls took."""

    def register(self, model: nn.Module, norms: Mapping[str, int]) -> list[RemovableHandle]:
        """Hooks on convolutions and products, activations, and `norms`."""
        handles = []
        for name, module in model.named_modules():
            if isinstance(module, WEIGHTED):
                handles.append(module.register_forward_hook(partial(self._weight_made, name)))
            elif any(c.__name__ in ACTIVATIONS for c in type(module).__mro__) and name.rpartition(".")[0] not in norms:
                handles.append(module.register_forward_pre_hook(partial(self._activation_took, name)))
        for name, axis in norms.items():
            module = model.get_submodule(name)
            handles += [
                module.register_forward_pre_hook(partial(self._norm_took, name, axis)),
                module.register_forward_hook(partial(self._norm_made, name)),
            ]
        return handles

    def _weight_made(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self.weighted.add(name, output)
        if hasattr(output, "_mark"):
            output._mark = output._mark._replace(path=(*output._mark.path, name))

    def _norm_took(self, name: str, axis: int, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        self.flow.positions.setdefault(name, x.numel() // (x.shape[0] * x.shape[axis]))
        if source := self.weighted.of(x):
            self.flow.feeds.setdefault(source, name)

    def _norm_made(self, name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self.normed.add(name, output)
        if hasattr(output, "_mark"):
            output._mark = output._mark._replace(norm=name)

    def _activation_took(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.calls.setdefault(name, []).append(self.normed.of(inputs[0]))

    def activations(self) -> dict[str, str]:
        """The activation of each norm. Each call of the activation must take the output of a norm, which feeds no other
        call.
        """
        sources = [s for origins in self.calls.values() for s in origins]
        return {
            s: activation
            for activation, origins in self.calls.items()
            if all(origins) and all(sources.count(s) == 1 for s in origins)
            for s in origins
            if s
        }


def trace(model: nn.Module, norms: Mapping[str, int], example: torch.Tensor) -> Flow:
    """Run `example` through `model` in eval mode and watch its `norms` (name to the axis of the channels). The model is
    left as it was.

    Raises `FlowError` where the network cannot run the example.

    A layer feeds a norm, and a norm an activation, if the input of the second shares memory with the output of the
    first, and nobody has written to it in between. So views and transpositions may stand between them, sums and pooling
    not.
    """
    flow = Flow()
    hooks = _Hooks(flow)
    handles = hooks.register(model, norms)
    try:
        with in_mode(model.modules(), training=False), torch.no_grad(), _Marking(flow.branches):
            image = example.clone()
            image._mark = _Mark()  # type: ignore[attr-defined]
            out = model(image)
    except (RuntimeError, AssertionError, ValueError, IndexError, ArithmeticError) as error:
        size = "x".join(str(n) for n in example.shape[1:])
        raise FlowError(f"{type(model).__name__} cannot run {size} images: {type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    flow.activations.update(hooks.activations())
    flow.head = (hooks.weighted.of(out) if isinstance(out, torch.Tensor) else None) or ""
    return flow
