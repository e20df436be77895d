"""The learning rate as a scale-invariant weight feels it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

from normbench.measures._steps import flat
from normbench.measures.base import Step, StepMeasure, Value


class EffectiveLearningRate(StepMeasure):
    """Learning rate per squared norm, the angle that a step turns a weight by, and the equilibrium that weight decay
    leads to.

    A scale-invariant weight w is a direction. A step of SGD with learning rate lr turns it as one of `lr / |w|^2` would
    turn the unit vector `w / |w|`. Recorded for scale-invariant layers, w the raw weight before the step and g the
    gradient of the loss:

    - `effective-lr.rate = lr / |w|^2`; of the whole network (layer "") with the norm of all scale-invariant weights
      together;
    - `effective-lr.angle` between w and w', radians, for every layer; of the whole network the mean over the
      scale-invariant ones. Any optimizer;
    - `effective-lr.norm = |w|` and `effective-lr.norm-equilibrium`, at which what weight decay wd takes is what steps
      add. With `c = |w| |g|`, which does
      not depend on `|w|`, it is `|w|^4 = lr c^2 / (wd (2 - lr wd))` for plain SGD and `|w|^4 = lr / (1 - m) c^2 / (2
      wd)` with momentum m;
    - `effective-lr.angle-equilibrium = sqrt(2 lr wd / (1 + m))`, radians.

    Both equilibria are those of the current learning rate and c, need many steps to be reached (about `1 / (2 lr wd)`),
    and have no value where wd is 0 or the optimizer is not SGD. c is that of a mini-batch, whose noise turns weights
    too. What is recorded is the mean over the followed steps; of the norm at equilibrium the fourth root of the mean
    fourth power, so that c^2 is what is averaged.

    Source: Hoffer et al., NeurIPS 2018; Zhang et al., ICLR 2019; van Laarhoven 2017, arXiv:1706.05350, section 3 (plain
    SGD); Wan et al., NeurIPS 2021 (momentum, angle).
    """

    name: ClassVar[str] = "effective-lr"
    summary: ClassVar[str] = (
        "Learning rate per squared weight norm, angle per step, and their equilibrium under weight decay"
    )
    source: ClassVar[str] = "van Laarhoven 2017, arXiv:1706.05350; Wan et al. 2021, arXiv:2006.08419"
    cost: ClassVar[str] = "a few dot products of each weight, a followed step"

    def follow(self, step: Step) -> Iterable[Value]:
        squares, angles = 0.0, []
        for layer in step.before:
            w, moved, g = (
                flat(step.before[layer]),
                flat(step.after[layer]) - flat(step.before[layer]),
                flat(step.gradient[layer]),
            )
            norm = w.norm().item()
            if norm == 0:
                continue
            # arccos of a cosine near 1 would lose half of the digits
            along = (w @ moved).item() / norm
            angle = math.atan2((moved - along / norm * w).norm().item(), norm + along)
            yield Value("effective-lr.angle", layer, angle)
            if layer not in step.invariant:
                continue
            squares += norm * norm
            angles.append(angle)
            yield Value("effective-lr.rate", layer, step.lr / (norm * norm))
            yield Value("effective-lr.norm", layer, norm)
            decay = step.weight_decay[layer]
            if decay > 0 and step.optimizer == "sgd":
                yield Value(
                    "effective-lr.norm-equilibrium",
                    layer,
                    norm_at_equilibrium(norm * g.norm().item(), step.lr, decay, step.momentum),
                )
                yield Value(
                    "effective-lr.angle-equilibrium", layer, math.sqrt(2 * step.lr * decay / (1 + step.momentum))
                )
        if angles:
            yield Value("effective-lr.rate", "", step.lr / squares)
            yield Value("effective-lr.angle", "", sum(angles) / len(angles))

    def summarize(self, quantity: str, values: Sequence[float]) -> float:
        if quantity != "effective-lr.norm-equilibrium":
            return super().summarize(quantity, values)
        return math.sqrt(math.sqrt(sum(v * v * v * v for v in values) / len(values)))


def norm_at_equilibrium(c: float, lr: float, decay: float, momentum: float) -> float:
    """|w| at which the growth by steps and the shrinking by weight decay cancel, for `c = |w| |g|`, under SGD; inf
    where `lr decay` is 2 or more.
    """
    if momentum:
        return math.sqrt(c * math.sqrt(lr / ((1 - momentum) * 2 * decay)))
    return math.sqrt(c * math.sqrt(lr / (decay * (2 - lr * decay)))) if lr * decay < 2 else math.inf
