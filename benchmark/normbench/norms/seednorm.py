"""Self-rescaled dynamic normalization (SeeDNorm).

Equation: `y = (tanh(b . x) a + gamma) x / sqrt(mean_C x^2 + eps) + beta` at each position of each example; `b . x` is
the sum over its channels, a and b are learned for each channel. b starts at 0, where the layer is `rms`, and a at 1.

Shapes: `(N, C, *)` to the same; `weight` (gamma), `bias` (beta), `alpha` (a) and `direction` (b) are `(C,)`.

Invariances: none, since the factor of x sees its length: that is what the method is for.

Departure: the source has no beta, which is kept here so that the shift of the layer that is replaced is not lost. The
several heads and the drop-out of a, with which it trains large models, are left out.

Source: Cai, Zhu, Liu and Min, SeeDNorm: Self-Rescaled Dynamic Normalization, ICLR 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    from torch import nn


class SeeDNorm(ActivationNorm):
    name: ClassVar[str] = "seednorm"
    summary: ClassVar[str] = "Root mean square of each position, with a gain that depends on it"
    aliases: ClassVar[tuple[str, ...]] = ("self-rescaled-dynamic-normalization",)
    source: ClassVar[str] = "Cai et al. 2026, arXiv:2510.22777"
    equation: ClassVar[str] = "y = (tanh(sum_C b x) a + gamma) x / sqrt(mean_C(x^2) + eps) + beta"
    family: ClassVar[Family] = "sample statistics"
    claims: ClassVar[Claims] = Claims(
        weight_scale="none",
        input_scale=False,
        input_shift=False,
        exact=None,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="none",
        constraints="0",
    )

    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.rescaled import SeeDNorm as Layer

        return Layer(site.channels, eps=self.eps or site.eps, affine=site.affine)
