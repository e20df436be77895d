"""Shows measures to small networks through the harness that trials use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from normbench.lab.observer import Observer
from normbench.measures import Measure, NormLayer, Probe, StepMeasure
from normbench.spec.outcome import Reading
from normbench.spec.trial import TrainSpec
from torch import nn

Found = dict[tuple[str, str], float | None]


def probe_of(
    model: nn.Module,
    images: torch.Tensor,
    *,
    norms: Mapping[str, NormLayer] | None = None,
    invariant: Iterable[str] = (),
    batch_size: int | None = None,
) -> Probe:
    """A probe of `model` in eval mode; the batch is all the images unless said otherwise."""
    return Probe(
        model=model.eval(),
        images=images,
        labels=torch.zeros(len(images), dtype=torch.int64),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        batch_size=batch_size or len(images),
        norms=norms or {},
        invariant=frozenset(invariant),
    )


def values(readings: Iterable[Reading]) -> Found:
    """By quantity and layer; each may be there once."""
    found: Found = {}
    for r in readings:
        assert (r.measure, r.layer) not in found
        found[r.measure, r.layer] = r.value
    return found


def read(measure: Measure, probe: Probe) -> Found:
    """What `measure` says of `probe` now."""
    return values(Observer([measure], probe, TrainSpec(epochs=1)).look(0, 0))


def follow(
    measure: StepMeasure,
    model: nn.Module,
    images: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    invariant: Iterable[str] = (),
    name: str = "sgd",
) -> Found:
    """What `measure` says of as many real optimizer steps as it follows, on a loss that is not symmetric in
    anything.
    """
    probe = Probe(
        model=model,
        images=images,
        labels=torch.zeros(len(images), dtype=torch.int64),
        optimizer=optimizer,
        invariant=frozenset(invariant),
    )
    observer = Observer([measure], probe, TrainSpec(epochs=1, optimizer=name))
    model.train()
    readings: list[Reading] = []
    for step in range(measure.steps):
        output = model(images)
        target = torch.randn(output.shape, generator=torch.Generator().manual_seed(step), dtype=output.dtype)
        optimizer.zero_grad()
        ((output - target) ** 2).mean().backward()
        watched = observer.before(step, 1, measure.steps)
        optimizer.step()
        assert watched is not None
        readings += observer.after(watched)
    return values(readings)
