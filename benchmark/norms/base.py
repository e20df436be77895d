"""The contract of a normalization method.

One file a method. An `ActivationNorm` builds a layer for one place in a network; a `WeightNorm` reparametrizes a weight. Both state
their claims, and one test measures every claim of every registered method. Import torch inside methods, not at the top of the file;
own layers live in `benchmark/norms/layers/` and are imported where they are built.

A layer built by `ActivationNorm.layer` maps `(N, C, *)` to the same shape, C on axis 1, and has, where it is affine, parameters `weight` and
`bias` of shape `(C,)` starting at 1 and 0 (the swap copies those of the layer it replaces). It computes in float32 under autocast, keeps float64,
and gives a gradient to its input in eval mode, which every attack needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmark.plugins import Plugin

if TYPE_CHECKING:
    from torch import nn


class NormSiteError(ValueError):
    """A method cannot be built at this place (groups do not divide the channels, one value a statistic, ...)."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in a network where a normalization layer stands."""

    name: str
    """Module path, e.g. `layer1.0.bn1`."""
    channels: int
    eps: float
    """Added to the variance by the layer that stood there."""
    momentum: float = 0.1
    """Weight of the new batch in running statistics (torch's convention)."""
    affine: bool = True


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a method promises; each field is measured by `tests/norms/test_claims.py`, in float64.

    weight_scale: does the output stay when the weight of the layer before it is rescaled? `row`: each output channel by its own positive
        factor; `block`: each group of channels by one; `tensor`: the whole weight by one; `none`.
    input_scale, input_shift: does the layer's output stay when its whole input is multiplied by a positive number, or a constant is added?
    batch_dependent: does another example of the batch change my output in training?
    running_statistics: are there statistics that eval mode uses instead of the batch's?
    stateful: does a forward in training change buffers?
    exact: True where the invariance holds to rounding; False where only up to eps in the denominator.
    """

    weight_scale: Literal["row", "block", "tensor", "none"]
    input_scale: bool
    input_shift: bool
    batch_dependent: bool
    running_statistics: bool
    stateful: bool
    exact: bool = False


Family = Literal["batch statistics", "sample statistics", "weight", "whitening", "no statistics"]


class Norm(Plugin, ABC):
    """What activation and weight methods share."""

    family: ClassVar[Family]
    claims: ClassVar[Claims]
    equation: ClassVar[str]
    """In plain text, symbols as in the source."""


class ActivationNorm(Norm):
    """Normalizes what flows through the network."""

    @abstractmethod
    def layer(self, site: Site) -> nn.Module:
        """The layer for `site`. Raises `NormSiteError` where the method is not defined there."""


class WeightNorm(Norm):
    """Normalizes weights: registered on a convolution or linear layer by `torch.nn.utils.parametrize`."""

    @abstractmethod
    def wrap(self, module: nn.Module) -> None:
        """Reparametrize `module.weight` (shape `(out, in, *)`) in place, without changing what the module is called."""
