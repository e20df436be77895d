"""Norms of the weights, raw and effective."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from benchmark.measures._weights import effective_weight, raw_weights
from benchmark.measures.base import Measure, Probe, Value


class WeightNorms(Measure):
    """L2 norm of each convolution's and linear layer's weight, and of all of them together (layer "").

    `raw` is the parameter that the optimizer moves (v of weight normalization); `effective` is the tensor that the layer multiplies with. They are equal where
    no weight method stands between. Norms are accumulated in float64. Source: Sun et al. 2020, section 2.7 and Figure 3.
    """

    name: ClassVar[str] = "weight-norm"
    summary: ClassVar[str] = "L2 norms of the weights, per layer and whole, raw and effective"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Figure 3"
    cost: ClassVar[str] = "none to speak of"

    def read(self, probe: Probe) -> Iterable[Value]:
        totals = {"raw": 0.0, "effective": 0.0}
        for layer, module, raw in raw_weights(probe.model):
            for kind, tensor in (("raw", raw), ("effective", effective_weight(module))):
                norm = tensor.detach().double().norm().item()
                totals[kind] += norm**2
                yield Value(f"weight-norm.{kind}", layer, norm)
        for kind, total in totals.items():
            yield Value(f"weight-norm.{kind}", "", math.sqrt(total))
