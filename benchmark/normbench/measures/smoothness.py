"""Smoothness along the gradient: how far the loss and its gradient can be trusted when a step is taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BeforeValidator, Field

from normbench.measures.base import Measure, Probe, Value
from normbench.spec.text import Number

if TYPE_CHECKING:
    from normbench.measures._loss import ProbeLoss


def _several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class Smoothness(Measure):
    """Loss L and gradient g at the parameters w, and at w - s g for the step sizes s of a fixed grid, on one batch in
    training mode.

    `gradient` is |g|, L2 over all trained parameters; `loss.min` and `loss.max` are the ends of the range of L(w - s g)
    over the grid; `change.min` and `change.max` those of |g(w - s g) - g|, the gradient's predictiveness; `beta` is max
    over s of |g(w - s g) - g| / (s |g|), the effective beta-smoothness, 0 where the gradient is. The batch is the first
    images of the probe, as many as the trial trains on at a time; batch statistics are taken anew at every point, noise
    and drop-out are the same at all of them. `step_sizes` are absolute, in the units of a learning rate of plain
    gradient descent, so that methods and epochs are held against each other at the same steps.

    Source: Santurkar, Tsipras, Ilyas and Madry, NeurIPS 2018, section 3.1 and figure 4.
    """

    name: ClassVar[str] = "smoothness"
    summary: ClassVar[str] = (
        "Range of the loss and change of the gradient along the gradient, effective beta-smoothness"
    )
    source: ClassVar[str] = "Santurkar et al., NeurIPS 2018, figure 4"
    cost: ClassVar[str] = "a forward and backward of one batch for each step size, and one more"

    step_sizes: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=1e6)], ...],
        BeforeValidator(_several, json_schema_input_type=float | str | list[float | str]),
        Field(min_length=1, max_length=64),
    ] = (0.05, 0.1, 0.2, 0.4)

    def read(self, probe: Probe) -> Iterable[Value]:
        from normbench.measures._loss import ProbeLoss

        yield from self.of(
            ProbeLoss(
                probe.model, probe.images[: probe.batch_size], probe.labels[: probe.batch_size], "train", probe.seed
            )
        )

    def of(self, loss: ProbeLoss) -> Iterable[Value]:
        """The values of one loss."""
        _, gradient = loss.gradient()
        length = float(gradient.double().norm())
        losses, changes = [], []
        for step_size in self.step_sizes:
            with loss.moved(-step_size * gradient):
                there, other = loss.gradient()
            losses.append(there)
            changes.append(float((other.double() - gradient.double()).norm()))
        yield Value("smoothness.gradient", "", length)
        yield Value("smoothness.loss.min", "", min(losses))
        yield Value("smoothness.loss.max", "", max(losses))
        yield Value("smoothness.change.min", "", min(changes))
        yield Value("smoothness.change.max", "", max(changes))
        beta = (
            max(change / (step_size * length) for change, step_size in zip(changes, self.step_sizes, strict=True))
            if length
            else 0.0
        )
        yield Value("smoothness.beta", "", beta)
