"""Orthonormal weights by Björck's iteration (reshaped kernel orthogonalization).

Equation: `W = Q / sqrt(k)`, Q the limit of `V <- (3 I - V V^T) V / 2`, V the raw weight as a matrix of rows, at first
divided by the root of the largest absolute row sum of `V V^T`. Q has orthonormal rows (columns, where there are more
rows than values in a row); of grouped convolutions, the whole weight is one matrix. k is at how many
positions of the kernel one value of the input is read, 9 for 3x3 with stride 1, and 1 for linear layers: a convolution
lengthens nothing more than `sqrt(k)` times as much as its matrix, so the layer's Lipschitz constant is at most 1.
`bound=matrix` leaves k out, and with it that promise.

Where the network's bound holds: layers of 1 with ReLU and without gamma make a chain of constant 1. The networks here
are not such chains: a residual addition adds the constants of its two paths, and the gammas that stand where the norms
were are learned. The measure `certified-accuracy` computes the bound of the whole network as it is, says which layers
have none, and certifies with it.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: the raw weight may be rescaled as a whole, exactly.

Source: Anil, Lucas and Grosse, Sorting out Lipschitz Function Approximation, ICML 2019 (iteration); Li et al.,
Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks, NeurIPS 2019 (RKO, the bound); Björck
and Bowie 1971. They have sorting activations in the place of ReLU, and other bounds to divide
by at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.norms.base import Claims, Family, WeightNorm

if TYPE_CHECKING:
    from torch import nn


class BjorckOrthonormal(WeightNorm):
    name: ClassVar[str] = "bjorck"
    summary: ClassVar[str] = "Orthonormal weights by iteration; each layer has a Lipschitz constant of at most 1"
    aliases: ClassVar[tuple[str, ...]] = ("rko",)
    source: ClassVar[str] = "Anil et al. 2019, arXiv:1811.05381; Li et al. 2019, arXiv:1911.00937"
    equation: ClassVar[str] = "W = Q / sqrt(k), Q = lim V <- (3 I - V V^T) V / 2"
    family: ClassVar[Family] = "weight"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=False,
        input_shift=False,
        exact=True,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="row",
        constraints="g*(g+1)/2",  # g, the layer's `num_groups`, is the rank of the weight: d, or the values of a row
    )

    steps: Annotated[int, Field(ge=1, le=100)] = 12
    bound: Literal["convolution", "matrix"] = "convolution"
    """Whose Lipschitz constant is at most 1."""

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.manifolds import Bjorck, overlap
        from normbench.norms.layers.weights import register

        gain = overlap(module) ** -0.5 if self.bound == "convolution" else 1.0
        module.num_groups = min(module.weight.flatten(1).shape)  # type: ignore[assignment]
        register(module, Bjorck(gain, self.steps))
