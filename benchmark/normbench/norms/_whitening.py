"""What the three kinds of batch whitening share.

Equation: `y = gamma W (x - mu) + beta`, `S = cov(x) + eps I` of each group of channels over batch and positions, with
`W S W^T = I`. The kinds are three choices of `W`, which such a condition leaves free up to a rotation. In eval mode the
running mean and the running covariance stand in.

Shapes: `(N, C, *)` to the same; `weight`, `bias`, `running_mean` are `(C,)`, `running_covariance` `(C/g, g, g)`.

Groups: of `group` channels, 16 by default, or, where 16 does not divide the channels, of the largest divisor below. A
size that is asked for must divide.

Running statistics: the mean and the covariance are averaged, `running <- (1 - momentum) running + momentum batch`, and
whitened in eval mode, as the second paper does where it averages Sigma. A covariance ages faster than a variance while
the weights still move fast. Measured on 640 digits (resnet18, width 0.125, 4 epochs, seed 0), accuracy on the test
images with running statistics and with those of the test images themselves: at a constant learning rate 14 and 85 %
(bw-zca), 40 and 85 % (bw-cd); at one that falls to zero 72 and 76 % (bw-zca). Averaging W in place of S is worse: 10,
10 and 12 %. So the gap is lag, not the rule; a rate that falls to zero, or smaller groups, close it.

Source: Huang, Yang, Lang and Deng, Decorrelated Batch Normalization, CVPR 2018; Huang, Zhao, Zhou, Zhu, Liu and Shao,
An Investigation into the Stochasticity of Batch Whitening, CVPR 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Momentum, Site, groups_of

if TYPE_CHECKING:
    from torch import nn

CLAIMS = Claims(
    weight_scale="block",
    input_scale=True,
    input_shift=True,
    exact=False,
    batch_dependent=True,
    running_statistics=True,
    stateful=True,
    sphere="channel",
    constraints="d*(d/g+3)/2",
    errors=("one value",),
)


class Whitening(ActivationNorm):
    """Batch whitening by the matrix that `method` names."""

    source: ClassVar[str] = "Huang et al. 2020, arXiv:2003.12327"
    family: ClassVar[Family] = "whitening"
    claims: ClassVar[Claims] = CLAIMS
    method: ClassVar[Literal["pca", "zca", "cd"]]

    group: Annotated[int, Field(ge=1)] | None = None
    eps: Eps = None
    momentum: Momentum = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.whitening import BatchWhitening as Layer

        return Layer(
            site.channels,
            method=self.method,
            groups=groups_of(self.group, site),
            eps=self.eps or site.eps,
            momentum=self.momentum or site.momentum,
            affine=site.affine,
        )
