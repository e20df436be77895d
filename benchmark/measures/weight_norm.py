"""Norms of the weights, raw and effective."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from benchmark.measures.base import Measure, Probe, Value

if TYPE_CHECKING:
    import torch
    from torch import nn


class WeightNorms(Measure):
    """L2 norm of each convolution's and linear layer's weight, and of all of them together (layer "").

    `raw` is the parameter that the optimizer moves (v of weight normalization); `effective` is the tensor that the layer multiplies with. They are equal where
    no weight method stands between. Norms are accumulated in float64. Source: Sun et al. 2020, section 2.7 and Figure 3.
    """

    name: ClassVar[str] = "weight-norm"
    summary: ClassVar[str] = "L2 norms of the weights, per layer and whole, raw and effective"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Figure 3"

    def read(self, probe: Probe) -> Iterable[Value]:
        totals = {"raw": 0.0, "effective": 0.0}
        for layer, raw, effective in weights(probe.model):
            for kind, tensor in (("raw", raw), ("effective", effective)):
                norm = tensor.detach().double().norm().item()
                totals[kind] += norm**2
                yield Value(f"weight-norm.{kind}", layer, norm)
        for kind, total in totals.items():
            yield Value(f"weight-norm.{kind}", "", math.sqrt(total))


def weights(model: nn.Module) -> Iterable[tuple[str, torch.Tensor, torch.Tensor]]:
    """(layer, raw parameter, effective weight) of every module whose `weight` has at least two dimensions.

    Call it in eval mode: in training each look at a spectrally normalized weight advances its power iteration.
    """
    from torch.nn.utils import parametrize

    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            originals = module.parametrizations["weight"].parameters(recurse=False)
            raw = max(originals, key=lambda p: p.numel())  # a gain has one value a row, the direction has them all
            yield name.removeprefix("network."), raw, module.weight
        elif "weight" in module._parameters and module._parameters["weight"] is not None and module._parameters["weight"].ndim >= 2:
            weight = module._parameters["weight"]
            yield name.removeprefix("network."), weight, weight
