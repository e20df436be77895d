"""The layers that keep running statistics, what they find in a batch, and how parts of a population are pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from normbench.norms.layers.blended import BatchInstanceNorm, EmaBatchNorm
from normbench.norms.layers.evonorm import EvoNormB0
from normbench.tensors.private import AnyBatchNorm
from normbench.tensors.snapshot import in_mode, same_buffers

_PREFIX = "running_"
#: Layers whose running variance is that of a batch of n values times n / (n - 1). Any other layer that does so says it
#: by an attribute `correction = 1`, as `torch.var` calls it.
_CORRECTED = (AnyBatchNorm, BatchInstanceNorm, EmaBatchNorm, EvoNormB0)

Values = Mapping[str, torch.Tensor]


def running(layer: nn.Module) -> dict[str, torch.Tensor]:
    """The running statistics that `layer` itself keeps, by name: `mean`, `var`, `covariance`, ..."""
    buffers = layer.named_buffers(recurse=False)
    return {name.removeprefix(_PREFIX): buffer for name, buffer in buffers if name.startswith(_PREFIX)}


def keeping(model: nn.Module) -> list[nn.Module]:
    """The layers of a network that keep running statistics: those with buffers `running_*` and a `momentum`."""
    return [module for module in model.modules() if hasattr(module, "momentum") and running(module)]


def put(layer: nn.Module, values: Values) -> None:
    """Give the running statistics of `layer` these values."""
    with torch.no_grad():
        for name, buffer in running(layer).items():
            buffer.copy_(values[name].view_as(buffer))


def cut(order: torch.Tensor, size: int) -> Sequence[torch.Tensor]:
    """Parts of `size` numbers, in order; the last one takes what is left over, so that none is tiny."""
    return order.tensor_split([size * i for i in range(1, len(order) // size)])


@contextmanager
def listening(layers: Sequence[nn.Module], hear: Callable[[nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Inside, `hear` gets each of `layers` with its input, before the layer works on it."""

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        hear(layer, inputs[0])

    handles = [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seen(layer: nn.Module, x: torch.Tensor) -> list[tuple[int, Values]]:
    """What `layer` finds in the batch `x`, `(N, C, *)`, in float64: how many values a channel has, and the statistics.

    With a momentum of 1 they are what one step of training leaves in the running ones. A layer that cuts its batch
    (`chunks`) finds something in each part. The layer stays as it was.
    """
    chunks: Callable[[int], int] | None = getattr(layer, "chunks", None)
    momentum = layer.momentum
    found: list[tuple[int, Values]] = []
    with torch.no_grad(), same_buffers(layer), in_mode([layer], training=True):
        try:
            layer.momentum = 1.0  # type: ignore[assignment]
            for part in x.tensor_split(chunks(len(x)) if chunks else 1):
                layer.forward(part)
                values = {name: buffer.double().clone() for name, buffer in running(layer).items()}
                found.append((part.numel() // part.shape[1], values))
        finally:
            layer.momentum = momentum
    return found


class Pooled:
    """The statistics of several batches together.

    `mean` is the mean of all values. `var`, `std` and `covariance` are those of all values, around that mean; they
    are put together from moments around 0. The divisor is the layer's own, so what is pooled from parts is what the
    layer would find in all of them at once. Of any other statistic it is the mean over the batches, weighted by their
    numbers of values.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.correction: int = getattr(layer, "correction", int(isinstance(layer, _CORRECTED)))
        self.total = 0
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, count: int, values: Values) -> None:
        """Statistics of a batch of `count` values a channel, in float64."""
        self.total += count
        for name, value in values.items():
            moment = self._around_zero(name, value, values.get("mean"), count)
            self._sums[name] = self._sums.get(name, torch.zeros_like(moment)) + count * moment

    def values(self) -> Values:
        """The statistics of all that was added, in float64."""
        moments = {name: total / self.total for name, total in self._sums.items()}
        return {name: self._around_mean(name, m, moments.get("mean")) for name, m in moments.items()}

    def _around_zero(self, name: str, value: torch.Tensor, mean: torch.Tensor | None, count: int) -> torch.Tensor:
        match name:
            case "var" if mean is not None:
                return value * (count - self.correction) / count + mean.square()
            case "std" if mean is not None:
                return value.square() + mean.square()
            case "covariance" if mean is not None:
                return value + _outer(mean, value)
        return value

    def _around_mean(self, name: str, moment: torch.Tensor, mean: torch.Tensor | None) -> torch.Tensor:
        match name:
            case "var" if mean is not None:
                return (moment - mean.square()).clamp(min=0) * self.total / (self.total - self.correction)
            case "std" if mean is not None:
                return (moment - mean.square()).clamp(min=0).sqrt()
            case "covariance" if mean is not None:
                return moment - _outer(mean, moment)
        return moment


def _outer(mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """`m m^T` of each group of channels, of the shape of `covariance`, `(groups, size, size)`."""
    grouped = mean.view(*covariance.shape[:-1])
    return grouped.unsqueeze(-1) * grouped.unsqueeze(-2)
