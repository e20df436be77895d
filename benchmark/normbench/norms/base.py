"""The contract of a normalization method.

One file a method. An `ActivationNorm` builds a layer for one place in a network, a `WeightNorm` reparametrizes a
weight, a `NormModifier` changes what an activation method gives. All state their claims, and one test measures every
claim of every registered method. Import torch inside methods, not at the top of the file; own layers live in
`benchmark/normbench/norms/layers/` and are imported where they are built.

A layer built by `ActivationNorm.layer` maps `(N, C, *)` to the same shape, C on axis 1, and has, where it is affine,
parameters `weight` and `bias` of shape `(C,)` starting at 1 and 0 (the swap copies those of the layer it replaces). It
computes in float32 under autocast, keeps float64, and gives a gradient to its input in eval mode, which every attack
needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.spec.plugins import Plugin
from normbench.spec.text import Number

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
    positions: int | None = None
    """Values a channel and example that the place normalizes at the trial's image size (H*W, or tokens); None: not
    known.
    """
    activated: bool = False
    """An activation follows at once (methods with one of their own take its place)."""
    ends_branch: bool = False
    """The output is added to a shorter path: this is the last norm of a residual branch."""


#: A parameter that overrides the eps of the replaced layer; None carries it over.
Eps = Annotated[float, Number, Field(gt=0, lt=1)] | None
#: A parameter that overrides the momentum (weight of the new batch) of the replaced layer; None carries it over.
Momentum = Annotated[float, Number, Field(gt=0, le=1)] | None


def groups_of(size: int | None, site: Site, at_most: int = 16) -> int:
    """The number of groups of `size` channels at `site`; without a size, of the largest divisor of the channels up to
    `at_most`.

    Raises `NormSiteError` where the size asked for does not divide the channels.
    """
    if size is None:
        size = max(s for s in range(1, at_most + 1) if site.channels % s == 0)
    if site.channels % size:
        near = max(s for s in range(1, size) if site.channels % s == 0)
        raise NormSiteError(
            f"{site.name}: groups of {size} do not divide {site.channels} channels; the nearest size that does "
            f"is {near}"
        )
    return site.channels // size


#: Situations in which a layer may refuse to work in training: a batch of one example, maps of one position, both at
#: once, an input that is the same number everywhere, and channels that are zero everywhere.
Situation = Literal["one example", "one position", "one value", "constant input", "dead channels"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a method promises; each field is measured by `normbench.norms.check`, in float64, at default parameters.

    For an activation method the layer's output is meant, for a weight method the output of a convolution with the
    wrapped weight, for a modifier the output of `none` as modified; "the weight before it" is the convolution that
    feeds the layer, or the raw weight that is wrapped. Where a method draws random numbers, everything is meant for
    given draws.

    weight_scale: does the output stay when the weight before it is rescaled? `row`: each output channel by its own
    positive
        factor; `block`: each group of consecutive channels by one; `tensor`: the whole weight by one; `none`.
    orthogonal: of which parts of the weight before it is the gradient orthogonal to the weight? It follows from
    `weight_scale`, which None stands for. input_scale, input_shift: does the output stay when the whole input is
    multiplied by a positive number, or a constant is added? exact: True where the scale invariances hold to rounding,
    False where only up to eps in the denominator, None where there are none. batch_dependent: does another example of
    the batch change my output in training? running_statistics: does eval mode use statistics of the data seen in
    training? stateful: does a forward in training change buffers? sphere: which part of the output (gamma 1, beta 0)
    has a norm that does not depend on the input: a `channel` over the batch, a channel of an
        `instance`, a `group` of channels of an example, a whole `sample`, a `position`; of a weight method, a `row` of
        the weight; the finest one.
    constraints: how many constraints the normalized output obeys (the constraint number: what the rank of the layer's
    Jacobian lacks), as a
        formula in d channels, n examples, p positions and g groups (the layer's `num_groups`, or `chunks(n)`), e.g.
        `2*d`; d rows of the weight for a weight method. Sphere and constraints are those of the layer where no
        activation follows.
    random: does a forward in training draw random numbers?
    true_gradient: is the gradient the derivative of the output? False where a part of the dependence is left out on
    purpose. errors: situations in which a layer in training raises ValueError instead of giving finite outputs and
    gradients.
    """

    weight_scale: Literal["row", "block", "tensor", "none"]
    orthogonal: Literal["row", "block", "tensor", "none"] | None = None
    input_scale: bool
    input_shift: bool
    exact: bool | None
    batch_dependent: bool
    running_statistics: bool
    stateful: bool
    sphere: Literal["channel", "instance", "group", "sample", "position", "row", "none"]
    constraints: str
    random: bool = False
    true_gradient: bool = True
    errors: tuple[Situation, ...] = ()


Family = Literal["batch statistics", "sample statistics", "weight", "whitening", "no statistics"]


class Norm(Plugin, ABC):
    """What activation methods, weight methods and modifiers share."""

    family: ClassVar[Family]
    claims: ClassVar[Claims]
    equation: ClassVar[str]
    """In plain text, symbols as in the source."""


class ActivationNorm(Norm):
    """Normalizes what flows through the network.

    own_activation: at sites that are `activated` the layer is an activation too, and the one that followed is taken
    out. own_branch_start: the layer starts residual branches at zero by itself, so that gammas that start at zero start
    at one.
    """

    own_activation: ClassVar[bool] = False
    own_branch_start: ClassVar[bool] = False

    @abstractmethod
    def layer(self, site: Site) -> nn.Module:
        """The layer for `site`. Raises `NormSiteError` where the method is not defined there."""


class WeightNorm(Norm):
    """Normalizes weights: registered on a convolution or linear layer by `torch.nn.utils.parametrize`.

    where: `fed` wraps the layers whose output goes straight into a norm of the original network, `all` every one that
    has a direction (more than one value a row, no row of zeros).
    """

    where: Literal["fed", "all"] = "fed"

    @abstractmethod
    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        """Reparametrize `module.weight`, `(out, in, *)`, in place, by `torch.nn.utils.parametrize`."""


class NormModifier(Norm):
    """Changes what an activation method gives, whichever it is: `bn+noise`."""

    @abstractmethod
    def modify(self, layer: nn.Module) -> nn.Module:
        """A module around `layer`, which is its attribute `norm`; maps `(N, C, *)` to the same shape."""
