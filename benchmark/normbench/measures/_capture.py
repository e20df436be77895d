"""What flows through chosen layers while images pass through the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normbench.measures.base import Probe


@dataclass(frozen=True)
class Flow:
    """The first input and the output of a layer, detached copies; of its last call where a network calls it more than
    once.
    """

    input: torch.Tensor
    output: torch.Tensor


@contextmanager
def watching(
    modules: Mapping[str, nn.Module], see: Callable[[str, torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Inside, each call of one of `modules` calls `see(name, input, output)`, with the tensors as they stand in the
    graph.

    Copy what is kept: layers behind write into them (activations in place, residual sums in place).
    """
    handles = []

    def hook(name: str) -> Any:
        def shown(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            see(name, args[0], output)

        return shown

    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or eval mode inside, eval mode afterwards. In training mode a forward moves buffers, which the harness
    puts back only after the whole look:
    read running statistics first.
    """
    model.train(training)
    try:
        yield
    finally:
        model.eval()


def flows(
    probe: Probe, modules: Mapping[str, nn.Module], *, training: bool, images: torch.Tensor | None = None
) -> dict[str, Flow]:
    """What goes into `modules` and comes out in one forward without gradient, by name; a module that is not called is
    missing.

    `images`: (N, C, H, W); None: as many of the probe's as the trial has in a batch.
    """
    import torch

    found: dict[str, Flow] = {}

    def keep(name: str, given: torch.Tensor, made: torch.Tensor) -> None:
        found[name] = Flow(given.detach().clone(), made.detach().clone())

    with torch.no_grad(), mode(probe.model, training=training), watching(modules, keep):
        probe.model(probe.images[: probe.batch_size] if images is None else images)
    return found
