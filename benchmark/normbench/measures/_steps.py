"""What step measures share: the worst of the followed steps, and the mean over the layers that a statement is about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from normbench.measures.base import StepMeasure, Value

if TYPE_CHECKING:
    import torch

WORST = "-worst"


class WorstOfSteps(StepMeasure):
    """Of quantities that end in `-worst` the largest value of the followed steps is recorded, of the others the
    mean.
    """

    def summarize(self, quantity: str, values: Sequence[float]) -> float:
        if not quantity.endswith(WORST):
            return super().summarize(quantity, values)
        return max(values) if not any(map(math.isnan, values)) else math.nan


def over_layers(quantity: str, values: Mapping[str, float], worst: Mapping[str, float]) -> Iterator[Value]:
    """The mean of `values` and the largest of `worst`, both by layer, as values of the whole network; nothing where
    there are no layers.
    """
    if values:
        yield Value(quantity, "", sum(values.values()) / len(values))
        yield Value(f"{quantity}{WORST}", "", math.nan if any(map(math.isnan, worst.values())) else max(worst.values()))


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """The values in a row, float64."""
    return tensor.detach().double().flatten()
