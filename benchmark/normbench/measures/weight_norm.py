"""Norms of the weights, raw and effective."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from normbench.measures._weights import effective_weight, raw_weights
from normbench.measures.base import Measure, Probe, Value


class WeightNorms(Measure):
    """L2 norm of each convolution's and linear layer's weight, and of all of them together (layer "").

    `raw` is the parameter that the optimizer moves (v of weight normalization); `effective` is the tensor that the
    layer multiplies with. They are equal where no weight method stands between. Norms are accumulated in float64.
    `-invariant` and `-other` are the totals over the weights that were measured scale-invariant before training, and
    over all others: that weights keep growing is a statement about the former alone, which in pre-activation networks
    and transformers are few. A total of no weights has no value. Source: Sun et al. 2020, section 2.5 and Figure 3.
    """

    name: ClassVar[str] = "weight-norm"
    summary: ClassVar[str] = "L2 norms of the weights, per layer and whole, raw and effective"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Figure 3"
    cost: ClassVar[str] = "none to speak of"

    def read(self, probe: Probe) -> Iterable[Value]:
        squares: dict[str, float] = {}
        for layer, module, raw in raw_weights(probe.model):
            for kind, tensor in (("raw", raw), ("effective", effective_weight(module))):
                norm = tensor.detach().double().norm().item()
                for total in (kind, f"{kind}-{'invariant' if layer in probe.invariant else 'other'}"):
                    squares[total] = squares.get(total, 0.0) + norm * norm
                yield Value(f"weight-norm.{kind}", layer, norm)
        for total, square in squares.items():
            yield Value(f"weight-norm.{total}", "", math.sqrt(square))
