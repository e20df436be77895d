"""How much the rest of the batch disturbs what a normalization layer, or the network, makes of an example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import Field

from normbench.measures._capture import watching
from normbench.measures._training import batch_statistics, spread
from normbench.measures.base import Measure, Probe, Value
from normbench.tensors.snapshot import same_buffers

if TYPE_CHECKING:
    import torch


class Disturbance(NamedTuple):
    """snd: in units of the output. relative: as a share of the mean length of the output; None where that is zero."""

    snd: float
    relative: float | None


class StochasticDisturbance(Measure):
    """Stochastic normalization disturbance of each normalization layer, and of the logits (layer "").

    Equation: `SND(x) = 1/s sum_i || G(X_i; x) - 1/s sum_j G(X_j; x) ||_2`, the mean over `examples` x. `G(X_i; x)` is
    the output for x when x is the first example of the batch: of B examples B - 1 are drawn anew, with replacement (so
    that a batch as large as the probe is random too), and x stays. The mean over s samples is what the equation has; it
    is smaller than that over infinitely many by about a factor sqrt(1 - 1/s).

    A layer is taken with its own input: what reaches it in training mode from all images of the probe at once. Its
    output for x is (C, positions); the length is that of the C channels of a position, and the mean is over positions,
    which makes it the equation's for one position. `disturbance.snd` is in units of the output (gamma is part of the
    layer), at most about sqrt(C) for gamma = 1; `disturbance.relative` is its share of the mean length of these
    outputs, and absent where they are zero (gamma and beta start at zero). For the logits the whole network has its
    normalization layers in training mode, without drop-out. Zero where no example depends on another. A batch of one
    has none.

    Source: Huang et al., An Investigation into the Stochasticity of Batch Whitening, CVPR 2020; Huang, CVPR 2021
    tutorial.
    """

    name: ClassVar[str] = "disturbance"
    summary: ClassVar[str] = "How much the other examples of a batch move an output in training (SND)"
    source: ClassVar[str] = "Huang et al. 2020, arXiv:2003.12327"
    cost: ClassVar[str] = "samples x examples forwards of a batch"

    batch: Annotated[int, Field(ge=2)] | None = None
    """Examples in a batch; None: the trial's."""
    samples: Annotated[int, Field(ge=2)] = 8
    """Batches an example is seen in (s)."""
    examples: Annotated[int, Field(ge=1)] = 3
    layers: Annotated[int, Field(ge=1)] | None = 8
    """How many normalization layers, evenly spaced; None: all."""

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        size = self.batch or probe.batch_size
        if size < 2:
            return
        inputs: dict[str, torch.Tensor] = {}

        def keep(name: str, given: torch.Tensor, _: torch.Tensor) -> None:
            inputs[name] = given.detach().clone()

        layers = {name: probe.norms[name].layer for name in spread(list(probe.norms), self.layers)}
        with torch.no_grad(), batch_statistics(probe):
            with watching(layers, keep), same_buffers(probe.model):
                probe.model(probe.images)
            for name, given in inputs.items():
                yield from self._values(layers[name], given, size, probe.seed, name)
            yield from self._values(probe.model, probe.images, size, probe.seed, "")

    def _values(self, module: torch.nn.Module, data: torch.Tensor, size: int, seed: int, layer: str) -> Iterable[Value]:
        def output(batch: torch.Tensor) -> torch.Tensor:
            with same_buffers(module):
                made: torch.Tensor = module(batch)
                return made

        found = disturbance(output, data, batch=size, samples=self.samples, examples=self.examples, seed=seed)
        yield Value("disturbance.snd", layer, found.snd)
        if found.relative is not None:
            yield Value("disturbance.relative", layer, found.relative)


def disturbance(
    function: Callable[[torch.Tensor], torch.Tensor],
    data: torch.Tensor,
    *,
    batch: int,
    samples: int,
    examples: int,
    seed: int,
) -> Disturbance:
    """SND of `function`, which maps a batch `(batch, C, *)` to outputs `(batch, D, *)`, for the first `examples` of
    `data`, `(N, C, *)`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    distances, lengths = [], []
    for x in data[:examples]:
        outputs = []
        for _ in range(samples):
            chosen = torch.randint(len(data), (batch,), generator=generator).to(data.device)
            drawn = data[chosen]
            drawn[0] = x
            output = function(drawn)[0].double()
            outputs.append(output.reshape(len(output), -1))
        stacked = torch.stack(outputs)
        distances.append((stacked - stacked.mean(0)).norm(dim=1).mean())
        lengths.append(stacked.norm(dim=1).mean())
    snd, length = (float(torch.stack(values).mean()) for values in (distances, lengths))
    return Disturbance(snd, snd / length if length > 0 else None)
