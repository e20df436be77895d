"""How far the updates of earlier layers move the gradient of a layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.measures._training import batch_statistics, loss, spread, update, weighted_layers
from normbench.measures._weights import raw_weights
from normbench.measures.base import Measure, Probe, Value
from normbench.spec.text import Number
from normbench.tensors.snapshot import same_buffers

if TYPE_CHECKING:
    import torch


class GradientShift(Measure):
    """Internal covariate shift as the change of a layer's gradient when the layers before it take their update.

    Equation: `G = dL/dW_i (W_1, ..., W_k)`, `G' = dL/dW_i (W_1', ..., W_(i-1)', W_i, ..., W_k)`: `shift.distance` is
    `||G - G'||_2`, `shift.cosine` is `<G, G'> / (||G|| ||G'||)`, absent where either is zero. `'` is one step of the
    trial's own optimizer on the same batch, the first of the probe. W_i is the raw weight of a convolution or linear
    layer, as the optimizer has it; all parameters that the network lists before it count as earlier. Of the first layer
    nothing is earlier: it has no values. Normalization layers are in training mode, there is no drop-out, L is the mean
    cross-entropy.

    At the last look the learning rate of a schedule is near zero, and so is the shift; `lr` sets one for all looks.

    Source: Santurkar et al., How Does Batch Normalization Help Optimization?, NeurIPS 2018, definition 2.1.
    """

    name: ClassVar[str] = "shift"
    summary: ClassVar[str] = "Change of a layer's gradient by the updates of the layers before it"
    source: ClassVar[str] = "Santurkar et al. 2018, arXiv:1805.11604"
    cost: ClassVar[str] = "one forward and backward of a batch, and one more a layer"

    layers: Annotated[int, Field(ge=1)] | None = 4
    """How many layers behind the first, evenly spaced; None: all."""
    lr: Annotated[float, Number, Field(gt=0)] | None = None
    """Learning rate of the step; None: that of the last one in training."""

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        images, labels = probe.images[: probe.batch_size], probe.labels[: probe.batch_size]
        raw = {name: weight for name, _, weight in raw_weights(probe.model) if weight.requires_grad}
        chosen = spread([name for name in weighted_layers(probe.model) if name in raw][1:], self.layers)
        parameters = list(probe.model.parameters())
        before = [p.detach().clone() for p in parameters]
        with batch_statistics(probe), same_buffers(probe.model):
            loss(probe, images, labels).backward()  # type: ignore[no-untyped-call]
        gradients = {name: _copy(raw[name].grad) for name in chosen}
        update(probe, self.lr)
        after = [p.detach().clone() for p in parameters]
        _set(parameters, before)
        done = 0
        for name in chosen:
            earlier = next(i for i, p in enumerate(parameters) if p is raw[name])
            _set(parameters[done:earlier], after[done:earlier])
            done = earlier
            with batch_statistics(probe), same_buffers(probe.model):
                (moved,) = torch.autograd.grad(loss(probe, images, labels), raw[name], allow_unused=True)
            g = gradients[name]
            if g is None or moved is None:
                continue
            yield Value("shift.distance", name, float((moved.double() - g).norm()))
            lengths = float(g.norm() * moved.double().norm())
            if lengths > 0:
                yield Value("shift.cosine", name, float((g * moved.double()).sum()) / lengths)


def _copy(gradient: torch.Tensor | None) -> torch.Tensor | None:
    return None if gradient is None else gradient.double().clone()


def _set(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
