"""The contract of a measure: a look at a network in training that leaves no trace on it.

One file each. A `Measure` is shown the network before the first step and then as often as the suite says; a
`StepMeasure` is also shown some optimizer steps as they happen; an `EndMeasure` is shown the trained network alone. The
harness (`normbench.lab.observer`) puts parameters, buffers, gradients, modes, the optimizer's state and random streams
back afterwards, records what each measure cost, and where one raises notes its first error and goes on without it; a
test over the registry holds trials with and without each measure bit-identical. Import torch inside methods, not at the
top of the file; what several measures need lives in files that start with `_`. A quantity that is sampled at fixed
coordinates has them behind an `@`: `surface.loss@-1,0.5`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.spec.plugins import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class NormLayer:
    """A normalization layer of the network, as the swap left it."""

    module: nn.Module
    """What stands at the place: the layer, or a wrapper with the layer as `.norm` (and a fused activation)."""
    axis: int
    """Of the channels, in its input and output: 1 or -1."""
    channels: int

    @property
    def layer(self) -> nn.Module:
        """The normalization layer itself, which works on axis 1 whatever `axis` says, without what is fused to it."""
        module = self.module
        while hasattr(module, "norm"):
            module = module.norm  # type: ignore[assignment]
        return module


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """How many equations a normalized tensor obeys in training, and how many values it has."""

    number: int
    values: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a measure may look at; the same images at every call and for every method.

    `model` maps pixel-space images to logits and is in eval mode; a measure that wants training mode sets it. `images`
    (N, C, H, W) float32 in [0, 1] and `labels` (N,) int64 are the first training images; `test_images` and
    `test_labels` the first of the test set, for accuracies that nothing is chosen by.
    """

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    optimizer: torch.optim.Optimizer
    batch_size: int = 32
    """The trial's; never more than there are images in the probe."""
    seed: int = 0
    """The trial's, for draws of a measure's own: `torch.Generator().manual_seed(probe.seed)`."""
    norms: Mapping[str, NormLayer] = field(default_factory=dict)
    """Normalization layers by place, in the order of the network."""
    constraints: Mapping[str, Constraints] = field(default_factory=dict)
    """On the outputs of normalization layers for a whole batch of the trial, and on normalized weights, by place: the
    method's claims, evaluated.
    """
    invariant: frozenset[str] = frozenset()
    """Layers (names as in `Value.layer`) whose weight was measured scale-invariant before training."""
    test_images: torch.Tensor | None = None
    test_labels: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step as it happened. Tensors by layer: the raw weights that the optimizer moves (v of weight
    normalization).
    """

    before: Mapping[str, torch.Tensor]
    gradient: Mapping[str, torch.Tensor]
    """Of the training loss alone: without weight decay, before clipping."""
    after: Mapping[str, torch.Tensor]
    lr: float
    momentum: float
    """0 for plain SGD and for optimizers that have none."""
    weight_decay: Mapping[str, float]
    optimizer: str
    """Name in the suite: `sgd`, `adamw`, ..."""
    invariant: frozenset[str]
    """As in `Probe`."""


@dataclass(frozen=True)
class Value:
    """One measured number: which quantity, of which layer (empty: the whole network)."""

    quantity: str
    layer: str
    value: float


class Measure(Plugin, ABC):
    """Looks at a network. `every`: epochs between two looks; the state before training and the last epoch are always
    looked at.
    """

    cost: ClassVar[str]
    """Of one look, in a few words: `one forward and backward of the probe`."""

    every: Annotated[int, Field(ge=1)] = 1

    @abstractmethod
    def read(self, probe: Probe) -> Iterable[Value]:
        """The values now. `quantity` starts with the measure's name: `weight-norm.raw`."""


class EndMeasure(Measure):
    """A measure about the trained network, or too costly to repeat. `every`: 0 looks after the last epoch alone."""

    every: Annotated[int, Field(ge=0)] = 0


class StepMeasure(Measure):
    """Follows optimizer steps. `steps`: how many, at the start of the first epoch and of every epoch that ends with a
    look.
    """

    steps: Annotated[int, Field(ge=1, le=10_000)] = 10

    def read(self, probe: Probe) -> Iterable[Value]:
        return ()

    @abstractmethod
    def follow(self, step: Step) -> Iterable[Value]:
        """The values of one step; what is recorded, at the last of the steps that were followed, is what `summarize`
        makes of them.
        """

    def summarize(self, quantity: str, values: Sequence[float]) -> float:
        """One number for the followed steps, of which `values` has at least one: their mean, unless a measure wants
        another (the worst of them).
        """
        return sum(values) / len(values)
