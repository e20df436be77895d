"""How far one update moves the distribution of each unit's output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.measures._capture import watching
from normbench.measures._training import batch_statistics, loss, rows, spread, update
from normbench.measures.base import Measure, Probe, Value
from normbench.spec.text import Number
from normbench.tensors.snapshot import same_buffers

if TYPE_CHECKING:
    import torch


class WassersteinShift(Measure):
    """Earth mover's distance between each unit's outputs before and after one update, the mean over units.

    Equation: `W_1(a, b) = 1/m sum_i |a_(i) - b_(i)|` of the sorted outputs a and b of a unit, its m values over the
    examples and positions of one batch. A unit is a channel of the output of a normalization layer, before an
    activation fused to it, or a logit (layer ""). `wasserstein.distance` is in units of the output;
    `wasserstein.relative` is the mean over units of W_1 divided by the unit's standard deviation before, without units
    that have none.

    The update is one step of the trial's own optimizer on the first batch of the probe, and the outputs are those of
    the same batch. Normalization layers are in training mode, there is no drop-out. At the last look the learning rate
    of a schedule is near zero, and so is the distance; `lr` sets one for all looks.

    Source: Huang and Yu, An Internal Covariate Shift Bounding Algorithm for Deep Neural Networks by Unitizing Layers'
    Outputs, CVPR 2020, who measure internal covariate shift by the distance between whole outputs of a layer and bound
    it; unit by unit, where it is exact, is our reading.
    """

    name: ClassVar[str] = "wasserstein"
    summary: ClassVar[str] = "Earth mover's distance that an update moves the outputs of units"
    source: ClassVar[str] = "Huang and Yu 2020, arXiv:2001.02814"
    cost: ClassVar[str] = "two forwards and a backward of a batch, a sort a layer"

    layers: Annotated[int, Field(ge=1)] | None = 8
    """How many normalization layers, evenly spaced; None: all."""
    lr: Annotated[float, Number, Field(gt=0)] | None = None
    """Learning rate of the step; None: that of the last one in training."""

    def read(self, probe: Probe) -> Iterable[Value]:
        images, labels = probe.images[: probe.batch_size], probe.labels[: probe.batch_size]
        chosen = {name: probe.norms[name].layer for name in spread(list(probe.norms), self.layers)}
        outputs: list[dict[str, torch.Tensor]] = []

        def keep(name: str, _: torch.Tensor, made: torch.Tensor) -> None:
            outputs[-1][name] = made.detach().clone()

        for look in range(2):
            outputs.append({})
            with batch_statistics(probe), same_buffers(probe.model), watching({**chosen, "": probe.model}, keep):
                total = loss(probe, images, labels)
                if look == 0:
                    total.backward()  # type: ignore[no-untyped-call]
                    update(probe, self.lr)
        for name, made in outputs[0].items():
            before = rows(made.double(), 1)
            moved = distances(before, rows(outputs[1][name].double(), 1))
            yield Value("wasserstein.distance", name, float(moved.mean()))
            std = before.std(1, correction=0)
            alive = std > 0
            if bool(alive.any()):
                yield Value("wasserstein.relative", name, float((moved[alive] / std[alive]).mean()))


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """W_1 of each row: a and b are (units, m), the result is (units,)."""
    return (a.sort(1).values - b.sort(1).values).abs().mean(1)
