"""The contract of statistics: what stands in the place of the running ones while a trained network is evaluated.

One file each. A layer declares that it keeps running statistics by what torch's batch norms have: buffers `running_*`,
and a `momentum` with `running <- (1 - momentum) running + momentum batch` (`normbench.statistics._layers`). Nothing
here knows the name of a method. The harness (`normbench.lab.restated`) puts everything back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from normbench.spec.plugins import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn


class Statistics(Plugin):
    """Statistics for the layers of a network that keep running ones.

    of_training: whether they are made from training images.
    """

    of_training: ClassVar[bool] = False

    @property
    def setting(self) -> str:
        """As results name it: `batch[size=32]`; parameters are left out that have their defaults."""
        return self.label()

    @property
    def batch(self) -> int | None:
        """How many test images share their statistics; None where no image depends on the others."""
        return None

    def prepare(self, model: nn.Module, layers: Sequence[nn.Module], images: torch.Tensor) -> None:
        """Change the running statistics of `layers` before anything is predicted; here they stay.

        images: training images as they are stored, (N, C, H, W); none of them unless `of_training`.
        """

    @contextmanager
    def applied(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        """Around the forward pass of one batch of test images; eval mode is on."""
        yield
