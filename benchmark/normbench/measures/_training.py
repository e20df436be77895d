"""The network as it is in training, but repeatable: statistics of the batch, gradients, updates."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from normbench.measures._weights import raw_weights
from normbench.tensors.snapshot import in_mode

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normbench.measures.base import Probe

T = TypeVar("T")


def batch_statistics(probe: Probe) -> AbstractContextManager[None]:
    """Inside, the normalization layers are in training mode and nothing else is: two forwards of one batch see no other
    drop-out or power iteration.
    """
    return in_mode([m for norm in probe.norms.values() for m in norm.layer.modules()], training=True)


def weighted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in the order of the network."""
    from normbench.tensors.layers import WEIGHTED

    return {name: module for name, module, _ in raw_weights(model) if isinstance(module, WEIGHTED)}


def channel_axis(module: nn.Module) -> int:
    """Of the input and output of a convolution or linear layer."""
    from torch import nn

    return -1 if isinstance(module, nn.Linear) else 1


def rows(x: torch.Tensor, axis: int) -> torch.Tensor:
    """`x` as (channels, everything else)."""
    return x.movedim(axis, 0).flatten(1)


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """`count` of `items`, evenly spaced and in order, the first and the last among them; of one, the last. None:
    all.
    """
    if count is None or count >= len(items):
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def loss(probe: Probe, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, without label smoothing."""
    from torch.nn import functional

    return functional.cross_entropy(probe.model(images).float(), labels)


def update(probe: Probe, lr: float | None) -> None:
    """One step of the trial's own optimizer, with its momentum and weight decay as they are, for the gradients at hand.
    The harness undoes it.

    lr: None leaves each group of parameters its own, that of the last step in training.
    """
    if lr is not None:
        for group in probe.optimizer.param_groups:
            group["lr"] = lr
    probe.optimizer.step()
