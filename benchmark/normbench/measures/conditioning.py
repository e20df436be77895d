"""How evenly the inputs and output gradients of layers spread over their channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.measures._capture import watching
from normbench.measures._training import (
    batch_statistics,
    channel_axis,
    loss,
    rows,
    spread,
    weighted_layers,
)
from normbench.measures.base import Measure, Probe, Value
from normbench.spec.text import Number
from normbench.tensors.snapshot import same_buffers

if TYPE_CHECKING:
    import torch


class Conditioning(Measure):
    """Partial condition numbers of each convolution's and linear layer's input and output gradient.

    Equation: `kappa_p = lambda_1 / lambda_ceil(p d)` of the eigenvalues `lambda_1 >= ... >= lambda_d` of `E[x x^T]`,
    the second moment (not centred, patches not unfolded) of the d channels of the layer's input over examples and
    positions, and of that of the gradient of the loss at its output. `conditioning.input@0.5` is kappa for p = 0.5 of
    the input, `conditioning.gradient@0.8` for p = 0.8 of the gradient. 1 is perfect. The condition number of the Fisher
    matrix of the layer is, if input and gradient are independent, the product of both for p = 1.

    Batches of the trial's size, normalization layers in training mode, mean cross-entropy, no drop-out. The moments are
    summed in float64; where `lambda_ceil(p d)` is zero to its rounding (dead channels, fewer samples than channels)
    there is no value.

    Source: Huang et al., Layer-wise Conditioning Analysis in Exploring the Learning Dynamics of DNNs, ECCV 2020.
    """

    name: ClassVar[str] = "conditioning"
    summary: ClassVar[str] = "Partial condition numbers of layer inputs and output gradients"
    source: ClassVar[str] = "Huang et al. 2020, arXiv:2002.10801"
    cost: ClassVar[str] = "one forward and backward of the probe, an eigenvalue problem a layer"

    shares: Annotated[tuple[Annotated[float, Number, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.5, 0.8)
    """p: which share of the eigenvalues lies above the smaller one that is looked at."""
    batches: Annotated[int, Field(ge=1)] = 8
    """At most so many batches; fewer where the probe has fewer."""
    layers: Annotated[int, Field(ge=1)] | None = 16
    """How many layers, evenly spaced; None: all."""

    def read(self, probe: Probe) -> Iterable[Value]:
        modules = weighted_layers(probe.model)
        chosen = {name: modules[name] for name in spread(list(modules), self.layers)}
        moments: dict[tuple[str, str], torch.Tensor] = {}

        def add(kind: str, name: str, x: torch.Tensor) -> None:
            flat = rows(x.detach(), channel_axis(chosen[name])).double()
            moments[kind, name] = moments.get((kind, name), 0) + flat @ flat.mT

        def see(name: str, given: torch.Tensor, made: torch.Tensor) -> None:
            add("input", name, given)
            if made.requires_grad:
                made.register_hook(lambda gradient: add("gradient", name, gradient))  # type: ignore[no-untyped-call]

        starts = range(0, len(probe.labels) - probe.batch_size + 1, probe.batch_size)
        with batch_statistics(probe), watching(chosen, see):
            for start in starts[: self.batches]:
                part = slice(start, start + probe.batch_size)
                with same_buffers(probe.model):
                    loss(probe, probe.images[part], probe.labels[part]).backward()  # type: ignore[no-untyped-call]
        for (kind, name), moment in moments.items():
            for share, kappa in zip(self.shares, partial_condition(moment, self.shares), strict=True):
                if kappa is not None:
                    yield Value(f"conditioning.{kind}@{share:g}", name, kappa)


def partial_condition(moment: torch.Tensor, shares: Iterable[float]) -> list[float | None]:
    """`lambda_1 / lambda_ceil(p d)` of a symmetric positive semi-definite matrix (d, d) for each p of `shares`; None
    where it is singular or not finite.
    """
    import torch

    if not bool(moment.isfinite().all()):
        return [None for _ in shares]
    values = torch.linalg.eigvalsh(moment).flip(0)
    d, largest = len(values), float(values[0])
    zero = d * torch.finfo(values.dtype).eps * largest
    # a share such as 0.1 of 30 is 3, though 0.1 * 30 is a little more
    smaller = [float(values[math.ceil(share * d - 1e-9) - 1]) for share in shares]
    return [largest / value if value > zero else None for value in smaller]
