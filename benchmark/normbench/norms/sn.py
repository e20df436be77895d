"""Spectral normalization.

Equation: `W = V / (u^T V v)` of the weight as a matrix of rows; u and v approach the first singular vectors by one step
of power iteration a forward pass in training and are constants of the graph. Reading the weight, and eval mode, leave
them alone.

Shapes: the raw weight has the shape of the weight, `(out, in, *)`; a row is what makes one output channel.

Invariances: the raw weight may be rescaled as a whole, exactly. Sun et al. (AAAI 2020) leave it out of their list of
scale-invariant methods. It bounds the matrix, not the convolution, whose gain on 8x8 maps was seen at 1.7.

Source: Miyato, Kataoka, Koyama and Yoshida, Spectral Normalization for Generative Adversarial Networks, ICLR 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.norms.base import Claims, Family, WeightNorm
from normbench.spec.text import Number

if TYPE_CHECKING:
    from torch import nn

#: Steps of power iteration at the start, as many as torch takes.
START = 15


class SpectralNorm(WeightNorm):
    name: ClassVar[str] = "sn"
    summary: ClassVar[str] = "Spectral normalization: first singular value 1"
    aliases: ClassVar[tuple[str, ...]] = ("spectralnorm",)
    source: ClassVar[str] = "Miyato et al. 2018, arXiv:1802.05957"
    equation: ClassVar[str] = "W = V / (u^T V v)"
    family: ClassVar[Family] = "weight"
    claims: ClassVar[Claims] = Claims(
        weight_scale="tensor",
        input_scale=False,
        input_shift=False,
        exact=True,
        batch_dependent=False,
        running_statistics=False,
        stateful=True,
        sphere="none",
        constraints="1",
    )

    eps: Annotated[float, Number, Field(gt=0, lt=1)] = 1e-12

    def wrap(self, module: nn.Linear | nn.Conv2d) -> None:
        from normbench.norms.layers.weights import Spectral, advance, register

        register(module, Spectral(module.weight, eps=self.eps, start=START))
        module.register_forward_pre_hook(advance)
