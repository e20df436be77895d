"""Power normalization (PN).

Equation: `u = x / sqrt(mean_C x^2 + eps)`, then `y = gamma u / sqrt(s_(t-1) + eps) + beta` with the running quadratic
mean of each channel, `s_t = (1 - momentum) s_(t-1) + momentum mean_NHW u^2`. In the first `warmup` steps the quadratic
mean of the batch divides, as it does in batch normalization, and the gradient is its own.

Gradient: afterwards `dL/du = (g - nu_(t-1) z) / sqrt(s_(t-1) + eps)`, z the normalized values, g the gradient there,
and `nu_t = nu_(t-1) + momentum mean_NHW((g - nu_(t-1) z) z)`. A running mean so stands for what the batch's own
statistics would take out. nu moves in each backward pass in training.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_square` (s) and `running_product` (nu) are `(C,)`.

Invariances: the weight tensor before it may be rescaled as a whole (up to eps), by the first division.

Departure: the published code averages s over all steps of the warm-up, uses nu in it, too, and divides the gradient by
the quadratic mean of the batch though the output was divided by the running one; here both are as in the paper's
algorithm. Second derivatives treat z in the correction as a constant. The published warm-up has thousands of steps.

Source: Shen, Yao, Gholami, Mahoney and Keutzer, PowerNorm: Rethinking Batch Normalization in Transformers, ICML 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site

if TYPE_CHECKING:
    from torch import nn


class PowerNorm(ActivationNorm):
    name: ClassVar[str] = "powernorm"
    summary: ClassVar[str] = "Running quadratic mean of each channel, with a running correction of the gradient"
    aliases: ClassVar[tuple[str, ...]] = (
        "power-norm",
        "pn",
    )
    source: ClassVar[str] = "Shen et al. 2020, arXiv:2003.07845"
    equation: ClassVar[str] = (
        "y = gamma u / sqrt(s_(t-1) + eps) + beta, u = x / sqrt(mean_C(x^2) + eps), "
        "s_t = (1 - m) s_(t-1) + m mean_NHW(u^2)"
    )
    family: ClassVar[Family] = "batch statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=True,
        input_shift=False,
        exact=False,
        batch_dependent=True,
        running_statistics=True,
        stateful=True,
        sphere="none",
        constraints="n*p",
        true_gradient=False,
    )

    warmup: Annotated[int, Field(ge=0)] = 1000
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.power import PowerNorm as Layer

        return Layer(
            site.channels,
            warmup=self.warmup,
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
