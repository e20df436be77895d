"""Weights on a sphere: their norm stays what it was at the start, and training only turns them.

Equation: `w_i = r_i v_i / |v_i|` of each row, with `r_i` the norm of the row at the start, and after every step of the
optimizer `v_i <- w_i`. With `unit=tensor` all rows are one vector with one norm.

The gradient of v is the part of the gradient of w that is tangent to the sphere. A step of plain SGD therefore turns a
row by `atan(lr |g_i| / r_i)`, g that part: the effective rate `lr / r^2` is fixed by the initial weights, and does not
fall as the weights grow (they do not) or rise as weight decay shrinks them. Weight decay has no norm to shrink: it
shortens v before the step, and with it the rate is `lr / (1 - lr decay)`. Measure: `effective-lr.angle`.

It departs from weight normalization by the fixed length and the projection, and from "hyperball" optimizers by leaving
the length of the update alone (they give it a fixed share of the radius).

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: each row of v may be rescaled by its own positive factor, exactly.

In a training loop of your own, `normbench.norms.layers.manifolds.hold(model, optimizer)` brings the projection.

Source: Sun et al., AAAI 2020, whose second claim is that normalized networks are optimized on a sphere; Wen et al.
2025, Hyperball Optimization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from normbench.norms.base import Claims, Family, WeightNorm

if TYPE_CHECKING:
    from torch import nn


class Sphere(WeightNorm):
    name: ClassVar[str] = "sphere"
    summary: ClassVar[str] = "Weights of fixed norm, brought back to it after every step"
    aliases: ClassVar[tuple[str, ...]] = ("hypersphere",)
    source: ClassVar[str] = "Sun et al., AAAI 2020; Wen et al. 2025, Hyperball Optimization"
    equation: ClassVar[str] = "w_i = r_i v_i / |v_i|, r_i = |v_i| at the start, v_i <- w_i after every step"
    family: ClassVar[Family] = "weight"
    claims: ClassVar[Claims] = Claims(
        weight_scale="row",
        input_scale=False,
        input_shift=False,
        exact=True,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="row",
        constraints="d",
    )

    unit: Literal["row", "tensor"] = "row"
    """What has a norm of its own: each row, or the whole weight."""

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.manifolds import OnSphere
        from normbench.norms.layers.weights import register

        register(module, OnSphere(module.weight, self.unit))
