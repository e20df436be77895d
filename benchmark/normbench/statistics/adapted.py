"""Running statistics, blended with those of the batch of test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.statistics.base import Statistics

if TYPE_CHECKING:
    import torch
    from torch import nn


class Adapted(Statistics):
    """`N / (N + n) running + n / (N + n) batch`: a prior that weighs as much as N images, against the batch's n.

    The statistics are blended, and the layer then works as in eval mode. Source: Schneider et al., "Improving
    robustness against common corruptions by covariate shift adaptation", 2020, equation 1.
    """

    name: ClassVar[str] = "adapted"
    summary: ClassVar[str] = "running ones, blended with those of the batch of test images"
    source: ClassVar[str] = "Schneider et al. 2020, arXiv:2006.16971, equation 1"

    prior: Annotated[int, Field(ge=0)] = 16
    """N: how many images the running statistics weigh as much as."""
    size: Annotated[int, Field(ge=1)] = 64
    """n: test images of a batch, drawn at random; the last batch takes what is left over."""

    @property
    def batch(self) -> int | None:
        return self.size

    @contextmanager
    def applied(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        from normbench.statistics._layers import Pooled, listening, put, running, seen
        from normbench.tensors.snapshot import same_buffers

        trained = {layer: {name: b.clone() for name, b in running(layer).items()} for layer in layers}

        def blend(layer: nn.Module, x: torch.Tensor) -> None:
            share = len(x) / (self.prior + len(x))
            pooled = Pooled(layer)
            for count, values in seen(layer, x):
                pooled.add(count, values)
            batch = pooled.values()
            put(layer, {name: (1 - share) * b.double() + share * batch[name] for name, b in trained[layer].items()})

        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(same_buffers(layer))
            stack.enter_context(listening(layers, blend))
            yield
