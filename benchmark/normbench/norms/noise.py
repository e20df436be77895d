"""Noise injection behind a normalization layer: `bn+noise`, the "noisy batch norm" that undoes what batch norm does to
distributions.

Equation: in training `y_ic <- s_ic y_ic + m_ic` for example i and channel c, drawn anew at every step and layer: first
for each channel `mu_c ~ U(-mean, mean)` and `sigma_c ~ U(1, scale)`, then for each example `m_ic ~ U(mu_c - spread,
mu_c + spread)` and `s_ic ~ N(sigma_c, spread^2)`. The noise is behind the layer's gamma and beta (and an activation of
its own). All positions of a channel of an example get the same `(m, s)`.

Eval mode draws nothing and puts the noise's mean in its place, `y <- (1 + scale) / 2 y`, as drop-out does: predictions
and the gradients that attacks follow are then functions of the image, at the scale that the layers behind were trained
on. What running statistics behind it remember of the noise's variance stays.

Shapes: `(N, C, *)` to the same. Invariances: none of its own; those of the layer that it modifies stay, for given
draws.

Source: Santurkar, Tsipras, Ilyas and Madry, How Does Batch Normalization Help Optimization?, NeurIPS 2018, section 2.1
and its algorithm in the appendix, with `mean` = 0.5, `scale` = 1.25, `spread` = 0.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import Claims, Family, NormModifier
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn


class Noise(NormModifier):
    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "Noise injection: channels of examples shifted and scaled at random"
    aliases: ClassVar[tuple[str, ...]] = ("noise-injection",)
    source: ClassVar[str] = "Santurkar et al. 2018, arXiv:1805.11604"
    equation: ClassVar[str] = (
        "y = s y + m, m ~ U(mu -+ spread), s ~ N(sigma, spread^2), mu ~ U(-mean, mean), sigma ~ U(1, scale)"
    )
    family: ClassVar[Family] = "no statistics"
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
        random=True,
    )

    mean: Annotated[float, Number, Field(ge=0, le=100)] = 0.5
    """Largest mean of a channel's shifts."""
    scale: Annotated[float, Number, Field(ge=1, le=100)] = 1.25
    """Largest mean of a channel's factors; the smallest is 1."""
    spread: Annotated[float, Number, Field(ge=0, le=100)] = 0.1
    """Of examples around the mean of their channel: half width of the shifts, standard deviation of the factors."""

    def modify(self, layer: nn.Module) -> nn.Module:
        from normbench.norms.layers.noise import Noisy

        return Noisy(layer, mean=self.mean, scale=self.scale, spread=self.spread)
