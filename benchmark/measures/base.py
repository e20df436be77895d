"""The contract of a measure: a look at a network in training that leaves no trace on it.

One file each. The harness calls a measure before the first step and then as often as the suite says, with random streams, mode and gradients put
back afterwards; a test over the registry holds trials with and without each measure bit-identical.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from benchmark.plugins import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a measure may look at.

    `model` maps pixel-space images to logits and is in eval mode; `images` (N, C, H, W) float32 in [0, 1] and `labels` (N,) int64 are the first
    training images, the same at every call and for every method.
    """

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Value:
    """One measured number: which quantity, of which layer (empty: the whole network)."""

    quantity: str
    layer: str
    value: float


class Measure(Plugin, ABC):
    """Looks at a network. `every`: epochs between two looks; the state before training and the last epoch are always looked at."""

    every: Annotated[int, Field(ge=1)] = 1

    @abstractmethod
    def read(self, probe: Probe) -> Iterable[Value]:
        """The values now. `quantity` starts with the measure's name: `weight-norm.raw`."""
