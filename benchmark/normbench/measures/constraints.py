"""How many constraints normalization puts on what it normalizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from normbench.measures.base import EndMeasure, Probe, Value


class ConstraintNumbers(EndMeasure):
    """The constraint number of each normalization layer for one training batch, and its share of the values that it
    constrains.

    Equation: `zeta` equations in the `n d p` values of a normalized batch of n examples (the trial's batch size), d
    channels and p positions: 2d of batch normalization, d (d + 3) / 2 of batch whitening, 2 g n of group normalization.
    `constraints.number` is `zeta`, `constraints.share` is `zeta / (n d p)`:
    what a layer takes of the freedom of a representation. Above 1 there are more equations than values, as with
    whitening of batches below (d + 3) / 2:
    the source's lower bound of the batch size. For weight methods (layer: the convolution or linear layer) the
    equations are in the values of its weight.

    The number is the formula that the method claims; `bench check norm` holds it against the rank that the layer's
    Jacobian lacks, which for the sizes in a network (a million values) cannot be computed. A layer that was not reached
    when the network was built has no values.

    Source: Huang, CVPR 2021 tutorial; Huang et al., Group Whitening, CVPR 2021.
    """

    name: ClassVar[str] = "constraints"
    summary: ClassVar[str] = "Constraint number of each normalization layer, and its share of the values"
    source: ClassVar[str] = "Huang et al. 2021, arXiv:2009.13333"
    cost: ClassVar[str] = "none to speak of"

    def read(self, probe: Probe) -> Iterable[Value]:
        for layer, found in probe.constraints.items():
            yield Value("constraints.number", layer, float(found.number))
            yield Value("constraints.share", layer, found.number / found.values)
