"""A training asks for its computations and goes on with what it is sent, so that several can be computed at once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from normbench.lab.engine.steps import Engine

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What a training waits for: that `engine` prepares itself for this batch, or makes a step with it, or the first
    half of one.
    """

    what: Literal["prepare", "step", "gradients"]
    engine: Engine
    images: torch.Tensor
    labels: torch.Tensor

    def computed(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What the training is to be sent: logits and loss of a step, see `Engine`."""
        found: tuple[torch.Tensor, torch.Tensor] | None = getattr(self.engine, self.what)(self.images, self.labels)
        return found


#: A training, or a trial, that yields each computation that it waits for, and returns `T`.
Asking = Generator[Wanted, Any, T]


def alone(asking: Asking[T], wanted: Wanted | None = None) -> T:
    """Compute all that is asked for, one after the other. wanted: what it waits for already. Returns what it
    returns.
    """
    try:
        wanted = wanted or next(asking)
        while True:
            wanted = answered(asking, wanted)
    except StopIteration as end:
        result: T = end.value
        return result


def answered(asking: Asking[Any], wanted: Wanted) -> Wanted:
    """Compute what is asked for, by itself. Returns what is asked for next. Raises `StopIteration` at the end."""
    try:
        found = wanted.computed()
    except BaseException as error:  # it belongs where the computation was asked for
        return asking.throw(error)
    return asking.send(found)
