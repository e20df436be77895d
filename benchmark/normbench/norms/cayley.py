"""Orthonormal weights by Cayley's transform.

Equation: `W = Q / sqrt(k)`, `Q = [(I - A); -2 Y] (I + A)^-1` with `A = X - X^T + Y^T Y`, where `[X; Y] = alpha V / |V|`
is cut into a square X and the rest Y, alpha is learned and starts at `|V|`, and V is the raw weight as a matrix of rows
(transposed where that makes it taller). Q has orthonormal columns, so that W has orthonormal rows (columns, where there
are more rows than values in a row) up to k. k and `bound` are those of `bjorck`, and so is what is said there about the
bound of a network.

The source transforms a convolution at every frequency of its Fourier transform, which makes the convolution orthogonal;
here it is the matrix of rows, as in `bjorck`, of which it is the exact and not iterated counterpart. torch's own
`orthogonal` takes a convolution's kernel for a heap of small matrices, and for wide matrices the exponential or the
transform of a square as large as a row.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: the raw weight may be rescaled as a whole, exactly.

Source: Trockman and Kolter, Orthogonalizing Convolutional Layers with the Cayley Transform, ICLR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from normbench.norms.base import Claims, Family, WeightNorm

if TYPE_CHECKING:
    from torch import nn


class CayleyOrthonormal(WeightNorm):
    name: ClassVar[str] = "cayley"
    summary: ClassVar[str] = "Orthonormal weights by a transform; each layer has a Lipschitz constant of at most 1"
    source: ClassVar[str] = "Trockman and Kolter 2021, arXiv:2104.07167"
    equation: ClassVar[str] = (
        "W = Q / sqrt(k), Q = [(I - A); -2 Y] (I + A)^-1, A = X - X^T + Y^T Y, [X; Y] = alpha V / |V|"
    )
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

    bound: Literal["convolution", "matrix"] = "convolution"
    """Whose Lipschitz constant is at most 1."""

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.manifolds import Cayley, overlap
        from normbench.norms.layers.weights import register

        gain = overlap(module) ** -0.5 if self.bound == "convolution" else 1.0
        module.num_groups = min(module.weight.flatten(1).shape)  # type: ignore[assignment]
        register(module, Cayley(module.weight, gain))
