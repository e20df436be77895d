"""Saves what a network holds and puts it back: into the same tensors, at the same places.

Everything here uses torch's public API. torch is imported when something is saved, so that measures can import this
while a run is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def buffer_places(model: nn.Module) -> list[tuple[nn.Module, str, torch.Tensor]]:
    """Every buffer with the module that holds it and its name there. Some layers replace a buffer's tensor instead of
    writing into it: `setattr(module, name, buffer)` brings the old one back.
    """
    return [(module, name, b) for module in model.modules() for name, b in module.named_buffers(recurse=False)]


class Values:
    """The values of some tensors, to be copied back into the same tensors."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._kept = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def restore(self) -> None:
        import torch

        with torch.no_grad():
            for tensor, value in self._kept:
                tensor.copy_(value)


class Buffers:
    """The buffers of a network: which tensors stand where, and their values."""

    def __init__(self, model: nn.Module) -> None:
        self._places = buffer_places(model)
        self._values = Values(buffer for _, _, buffer in self._places)

    def restore(self) -> None:
        self._values.restore()
        for module, name, buffer in self._places:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)


class Random:
    """The random streams of the CPU and of the GPUs that hold the network."""

    def __init__(self, model: nn.Module) -> None:
        import torch

        self._cpu = torch.get_rng_state()
        devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in devices}

    def restore(self) -> None:
        import torch

        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)


class OptimizerState:
    """What an optimizer holds for each parameter and each group of them."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [_kept(group) for group in optimizer.param_groups]
        self._state = {parameter: _kept(values) for parameter, values in optimizer.state.items()}

    def restore(self) -> None:
        """Put the values back; what the optimizer has made since is forgotten."""
        for group, kept in zip(self._optimizer.param_groups, self._groups, strict=True):
            _put(group, kept)
        for parameter in list(self._optimizer.state):
            if parameter in self._state:
                _put(self._optimizer.state[parameter], self._state[parameter])
            else:
                del self._optimizer.state[parameter]

    def rewind(self) -> None:
        """Put the values back as `restore` does, but leave groups as they are. Tensors that were made since stay in
        place as zeros, where torch's SGD, Adam and AdamW start.
        """
        for parameter, values in self._optimizer.state.items():
            kept = self._state.get(parameter, {})
            for key, now in values.items():
                before = kept[key][1] if key in kept else None
                if not _is_tensor(now):
                    values[key] = before
                elif before is None:
                    now.zero_()
                else:
                    now.copy_(before)


class Snapshot:
    """Everything that training steps and measures change: parameters, their gradients, buffers, modes, the optimizer's
    state, random streams.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self._parameters = [(p, p.grad, p.requires_grad) for p in model.parameters()]
        self._modes = [(module, module.training) for module in model.modules()]
        self._optimizer = OptimizerState(optimizer) if optimizer else None
        self._kept = (Values(model.parameters()), Buffers(model), Random(model))

    def restore(self) -> None:
        """Put everything back."""
        if self._optimizer:
            self._optimizer.restore()
        self._put_back()

    def rewind(self) -> None:
        """As `restore`, but for the optimizer, see `OptimizerState.rewind`."""
        if self._optimizer:
            self._optimizer.rewind()
        self._put_back()

    def _put_back(self) -> None:
        for part in self._kept:
            part.restore()
        for parameter, gradient, needed in self._parameters:
            parameter.grad = gradient
            parameter.requires_grad_(needed)
        _set_modes(self._modes)


@contextmanager
def undisturbed(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Iterator[None]:
    """Eval mode and no gradients inside. Afterwards everything that a `Snapshot` holds is what it was."""
    before = Snapshot(model, optimizer)
    for parameter in model.parameters():
        parameter.grad = None
    model.eval()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def same_buffers(module: nn.Module) -> Iterator[None]:
    """Afterwards the buffers are what they were, so no forward pass depends on the one before it. A backward pass has
    to happen inside.
    """
    before = Buffers(module)
    try:
        yield
    finally:
        before.restore()


@contextmanager
def in_mode(modules: Iterable[nn.Module], *, training: bool) -> Iterator[None]:
    """Inside, each of `modules`, though not its children, is in training or in eval mode."""
    before = [(module, module.training) for module in modules]
    for module, _ in before:
        module.training = training
    try:
        yield
    finally:
        _set_modes(before)


@contextmanager
def unchanging(model: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode, which it enters itself, and its parameters need no gradient."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        model.requires_grad_(False)
        yield
    finally:
        _set_modes(modes)
        for parameter, needed in before:
            parameter.requires_grad_(needed)


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _kept(values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each value with a copy of it; a group's parameters belong to the network and are not copied."""
    return {
        key: (value, value.clone() if _is_tensor(value) else deepcopy(value))
        for key, value in values.items()
        if key != "params"
    }


def _put(values: dict[str, Any], kept: dict[str, tuple[Any, Any]]) -> None:
    """Tensors are the old objects with the old values; everything else is a copy of the old value."""
    for key in values.keys() - kept.keys() - {"params"}:
        del values[key]
    for key, (value, copy) in kept.items():
        values[key] = value.copy_(copy) if _is_tensor(value) else deepcopy(copy)
