"""Statistics of training images, computed anew for the trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.statistics.base import Statistics

if TYPE_CHECKING:
    import torch
    from torch import nn


class Precise(Statistics):
    """Of the population: training images, not augmented, pass in batches through the trained network, whose layers are
    in training mode, and what each layer finds in them is pooled. A moving average lags behind the weights instead.

    Means and variances (standard deviations, covariances) are those of all values together, as fvcore's
    `update_bn_stats` pools them; of other statistics the mean over batches is taken, weighted by their numbers of
    values. Source: Wu and Johnson, "Rethinking Batch in BatchNorm", 2021, section 3.
    """

    name: ClassVar[str] = "precise"
    summary: ClassVar[str] = "computed anew over training images"
    source: ClassVar[str] = "Wu and Johnson 2021, arXiv:2105.07576, section 3"
    aliases: ClassVar[tuple[str, ...]] = ("precise-bn",)
    of_training: ClassVar[bool] = True

    images: Annotated[int, Field(ge=2)] | None = None
    """First so many training images; None for all."""
    size: Annotated[int, Field(ge=1)] = 128
    """Images of a batch."""

    def prepare(self, model: nn.Module, layers: Sequence[nn.Module], images: torch.Tensor) -> None:
        import torch

        from normbench.statistics._layers import Pooled, cut, listening, put, seen
        from normbench.tensors.snapshot import in_mode, same_buffers

        found = {layer: Pooled(layer) for layer in layers}
        chosen = images[: self.images]

        def add(layer: nn.Module, x: torch.Tensor) -> None:
            for count, values in seen(layer, x):
                found[layer].add(count, values)

        with torch.no_grad(), same_buffers(model), in_mode(layers, training=True), listening(layers, add):
            for batch in cut(torch.arange(len(chosen)), self.size):
                part = chosen[batch.to(chosen.device)]
                model(part if part.is_floating_point() else part.float() / 255)
        for layer, pooled in found.items():
            if pooled.total:  # a layer that the network never calls keeps what it has
                put(layer, pooled.values())
