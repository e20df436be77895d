"""Calls measures without letting them touch the trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from benchmark.measures import Measure, Probe
from benchmark.trial import Reading


def look(measures: Sequence[Measure], probe: Probe, *, step: int, epoch: int, epochs: int) -> list[Reading]:
    """The readings of every measure that is due: before training (epoch 0), every so many epochs, and after the last."""
    readings = []
    for measure in measures:
        if epoch % measure.every and epoch != epochs:
            continue
        with undisturbed(probe.model):
            readings += [
                Reading(step=step, epoch=epoch, measure=v.quantity, layer=v.layer, value=v.value if math.isfinite(v.value) else None)
                for v in measure.read(probe)
            ]
    return readings


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards modes, parameters, gradients, buffers and random streams are what they were."""
    modes = {m: m.training for m in model.modules()}
    parameters = {p: (p.detach().clone(), p.grad, p.requires_grad) for p in model.parameters()}
    buffers = {b: b.clone() for b in model.buffers()}
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=cuda):
        for parameter in parameters:
            parameter.grad = None
        model.eval()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, (value, grad, needs) in parameters.items():
                    parameter.requires_grad_(needs)
                    parameter.copy_(value)
                    parameter.grad = grad
                for buffer, value in buffers.items():
                    buffer.copy_(value)
            for module, mode in modes.items():
                module.training = mode
