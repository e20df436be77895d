"""Fixup: no normalization, and an initialization that keeps residual branches small, with scalars.

Equation: `y = s x + b` where a residual branch ends, s and b learned scalars that start at 1 and 0; `y = x + b` at the
other places of norms; and a learned scalar that starts at 0 is added to the input of each convolution and linear layer
of a branch, of a shortcut, and of the last layer. In a network of L branches with m layers each, the last layer of each
branch and the layer that makes the logits start at zero, and the others of a branch at `L^(-1 / (2 m - 2))` times what
they would start at. Scalars and biases are trained with a tenth of the learning rate. Gammas and betas of each channel
are gone.

Branches, shortcuts and the last layer are found by running an example through the network: a branch ends in a norm
whose output is added to a shorter path. The standard initialization that the source asks for is that of the network
(He's, in ResNets). It departs from the authors' code in two scalars at each shortcut with a convolution: one in front
of it, which is that of the branch in their code, and one behind, where a norm was. They train with mixup, which is a
matter of the recipe.

Shapes: `(N, C, *)` to the same; there is no `weight` and no `bias`.

Source: Zhang, Dauphin and Ma, Fixup Initialization: Residual Learning Without Normalization, ICLR 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from normbench.norms._branches import WholeNetwork
from normbench.norms.base import Claims, Family, Site

if TYPE_CHECKING:
    from torch import nn


class Fixup(WholeNetwork):
    name: ClassVar[str] = "fixup"
    summary: ClassVar[str] = "No normalization; small residual branches by initialization, and scalars"
    source: ClassVar[str] = "Zhang, Dauphin and Ma 2019, arXiv:1901.09321"
    equation: ClassVar[str] = "y = s x + b, s = 1 and b = 0 at the start, w = L^(-1 / (2 m - 2)) w_He in branches"
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
    )

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.branches import Shift

        return Shift(site.channels, scaled=site.ends_branch)

    def rebuild(
        self,
        layers: Mapping[str, nn.Conv2d | nn.Linear],
        *,
        branches: Sequence[Sequence[str]],
        shortcuts: Sequence[str],
        head: str,
    ) -> None:
        import torch

        from normbench.norms.layers.branches import shift_input

        with torch.no_grad():
            for branch in branches:
                for name in branch[:-1]:
                    layers[name].weight.mul_(len(branches) ** (-1 / (2 * len(branch) - 2)))
            zeros = [layers[name] for name in (*(branch[-1] for branch in branches), *filter(None, [head]))]
            for parameter in (p for layer in zeros for p in (layer.weight, layer.bias) if p is not None):
                parameter.zero_()
        for name in dict.fromkeys([*(n for branch in branches for n in branch), *shortcuts, *filter(None, [head])]):
            shift_input(layers[name])
