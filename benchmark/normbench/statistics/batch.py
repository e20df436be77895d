"""Statistics of the test images themselves, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.statistics.base import Statistics

if TYPE_CHECKING:
    from torch import nn


class Batch(Statistics):
    """As in training: the layers that keep running statistics are in training mode, all else is in eval mode. So ghost
    batch norm cuts the batch, and batch renorm corrects its statistics towards the running ones.

    The difference to `running` is the gap between train and eval mode. Source: Nado et al., "Evaluating
    Prediction-Time Batch Normalization for Robustness under Covariate Shift", 2020.
    """

    name: ClassVar[str] = "batch"
    summary: ClassVar[str] = "of the batch of test images, as in training"
    source: ClassVar[str] = "Nado et al. 2020, arXiv:2006.10963"

    size: Annotated[int, Field(ge=1)] = 64
    """Test images of a batch, drawn at random; the last batch takes what is left over."""

    @property
    def batch(self) -> int | None:
        return self.size

    @contextmanager
    def applied(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        from contextlib import ExitStack

        from normbench.tensors.snapshot import in_mode, same_buffers

        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(same_buffers(layer))
            stack.enter_context(in_mode(layers, training=True))
            yield
