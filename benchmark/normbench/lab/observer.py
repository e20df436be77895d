"""Calls measures without letting them touch the trial."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from normbench.lab.network.swap import Audit
from normbench.measures import Constraints, Measure, NormLayer, Probe, Step, StepMeasure, Value
from normbench.measures._weights import layer_of, raw_weights
from normbench.norms import split
from normbench.norms.check import evaluate, sizes_of
from normbench.spec.outcome import Reading
from normbench.spec.trial import Component, TrainSpec
from normbench.tensors.snapshot import undisturbed

#: Characters of an error's line.
ERROR_LENGTH = 300


def norm_layers(model: nn.Module, audit: Audit, prefix: str = "network") -> dict[str, NormLayer]:
    """The layers that a swap put into `model.network`, by place."""
    return {
        r.name: NormLayer(module=model.get_submodule(f"{prefix}.{r.name}"), axis=r.axis, channels=r.channels)
        for r in audit.replaced
    }


def constraints(
    model: nn.Module, audit: Audit, norm: Sequence[Component], examples: int, prefix: str = "network"
) -> dict[str, Constraints]:
    """The constraints that the methods of `norm` claim for every place that the swap changed and the network reaches,
    in a batch of `examples`. A modifier is not taken into account.
    """
    weight, activation, _ = split(tuple(norm))
    found = {}
    for r in audit.replaced:
        if r.positions:
            layer = NormLayer(module=model.get_submodule(f"{prefix}.{r.name}"), axis=r.axis, channels=r.channels).layer
            number = evaluate(activation.claims.constraints, sizes_of(layer, d=r.channels, n=examples, p=r.positions))
            found[r.name] = Constraints(number=number, values=examples * r.channels * r.positions)
    for w in audit.wrapped:
        assert weight is not None  # noqa: S101
        number = evaluate(
            weight.claims.constraints, sizes_of(model.get_submodule(f"{prefix}.{w.name}"), d=w.shape[0], n=1, p=1)
        )
        found[w.name] = Constraints(number=number, values=math.prod(w.shape))
    return found


def invariant_layers(audit: Audit) -> frozenset[str]:
    """The layers whose weight the audit measured to be scale-invariant."""
    return frozenset(layer_of(p) for p in audit.scale_invariant or ())


@dataclass
class Watched:
    """A step that is being followed."""

    measures: list[StepMeasure]
    step: int
    epoch: int
    fraction: float
    before: dict[str, torch.Tensor]
    gradient: dict[str, torch.Tensor]
    closes: list[StepMeasure]
    """The measures for which this is the last step of the epoch."""


@dataclass
class Observer:
    """Everything that looks at a trial while it trains. `also`: further readings after an epoch (validation)."""

    measures: Sequence[Measure]
    probe: Probe
    spec: TrainSpec
    also: Callable[[int, int], list[Reading]] = lambda step, epoch: []
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """The first error of each measure that raised, on one line. A measure that fails loses its own readings and nothing
    else.
    """
    _sums: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def look(self, step: int, epoch: int) -> list[Reading]:
        """The readings of every measure that is due: before training (epoch 0), after every so many epochs, and after
        the last.
        """
        readings = []
        for measure in self.measures:
            if not self._due(measure, epoch):
                continue
            with self._charged(measure, epoch), undisturbed(self.probe.model, self.probe.optimizer):
                for v in measure.read(self.probe):
                    readings.append(_reading(v, step, epoch))  # noqa: PERF401
        return readings + self.also(step, epoch)

    def follows(self, step: int, epoch: int, steps_an_epoch: int) -> list[StepMeasure]:
        """The measures that follow the coming step. `step` counts from 0."""
        within = step % steps_an_epoch
        return [
            m
            for m in self.measures
            if isinstance(m, StepMeasure) and within < m.steps and (epoch == 1 or self._due(m, epoch))
        ]

    def before(self, step: int, epoch: int, steps_an_epoch: int) -> Watched | None:
        """Keep what measures need of the coming step, between its backward pass and its update; None where no measure
        follows it. `step` counts from 0.
        """
        following = self.follows(step, epoch, steps_an_epoch)
        if not following:
            return None
        within = step % steps_an_epoch
        weights = {layer: raw for layer, _, raw in raw_weights(self.probe.model) if raw.grad is not None}
        return Watched(
            measures=following,
            step=step + 1,
            epoch=epoch,
            fraction=epoch - 1 + (within + 1) / steps_an_epoch,
            before={k: w.detach().clone() for k, w in weights.items()},
            gradient={k: w.grad.detach().clone() for k, w in weights.items() if w.grad is not None},
            closes=[m for m in following if within + 1 == min(m.steps, steps_an_epoch)],
        )

    def after(self, watched: Watched) -> list[Reading]:
        """Show a step to the measures that follow it. Returns readings of those that saw the epoch's last step."""
        weights = {
            layer: raw.detach().clone() for layer, _, raw in raw_weights(self.probe.model) if layer in watched.before
        }
        decay = {id(p): group["weight_decay"] for group in self.probe.optimizer.param_groups for p in group["params"]}
        group = self.probe.optimizer.param_groups[0]
        step = Step(
            before=watched.before,
            gradient=watched.gradient,
            after=weights,
            lr=float(group["lr"]),
            momentum=float(group.get("momentum") or 0.0),
            weight_decay={layer: float(decay.get(id(raw), 0.0)) for layer, _, raw in raw_weights(self.probe.model)},
            # What measures predict for `sgd` is of plain momentum on the gradient itself.
            optimizer=f"{self.spec.optimizer}, changed" if self.spec.nesterov or self.spec.agc else self.spec.optimizer,
            invariant=self.probe.invariant,
        )
        readings = []
        for measure in watched.measures:
            with self._charged(measure, watched.epoch):
                for v in measure.follow(step):
                    self._sums.setdefault((measure.name, v.quantity, v.layer), []).append(v.value)
            if measure in watched.closes:
                for key in [k for k in self._sums if k[0] == measure.name]:
                    values = self._sums.pop(key)
                    readings.append(
                        _reading(
                            Value(key[1], key[2], measure.summarize(key[1], values)), watched.step, watched.fraction
                        )
                    )
        return readings

    def _due(self, measure: Measure, epoch: int) -> bool:
        return epoch == self.spec.epochs or (measure.every > 0 and epoch % measure.every == 0)

    @contextmanager
    def _charged(self, measure: Measure, epoch: int) -> Iterator[None]:
        """Take the time of what happens inside, and note an error."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:  # a measure is foreign code; the trial's other results are good without it
            self.errors.setdefault(
                measure.name, f"epoch {epoch}: {type(error).__name__}: {' '.join(str(error).split())}"[:ERROR_LENGTH]
            )
        self.seconds[measure.name] = self.seconds.get(measure.name, 0.0) + time.perf_counter() - started


def _reading(value: Value, step: int, epoch: float) -> Reading:
    return Reading(
        step=step,
        epoch=epoch,
        measure=value.quantity,
        layer=value.layer,
        value=value.value if math.isfinite(value.value) else None,
    )
