"""Attacks that climb a loss by its gradient: one loop for FGSM, BIM, PGD and MIM, in every ball.

What makes the loop cheap: an image leaves the batch at the step that fools it and another one takes its place, and no
gradient is computed for parameters. Per step and image it computes what foolbox computes, in the same order, so that
without early exit both end in the same bits (`engine: foolbox` runs foolbox).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from normbench.attacks.base import Attack, Pool, plain
from normbench.spec.text import Number

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normbench.attacks._balls import BallName

#: An image leaves early when the best wrong logit beats the right one by more than this share of the largest logit:
#: beyond float32 rounding, so that the verification afterwards, in another batch, finds the same.
CLEARLY = 1e-5
#: New images are taken in when this share of the batch is free; below it, joining tensors costs more than the gap.
REFILL = 1 / 8


def loss_of(logits: torch.Tensor, labels: torch.Tensor, kind: Literal["ce", "dlr"]) -> torch.Tensor:
    """Loss (N,) to climb: cross-entropy, or the difference of logits ratio, which does not change when logits are
    scaled (Croce and Hein 2020, eq. 6).

    DLR = -(z_y - max_{i != y} z_i) / (z_(1) - z_(3)); with two classes the third largest is missing, and the numerator
    alone is used.
    """
    from torch.nn import functional

    if kind == "ce":
        return functional.cross_entropy(logits, labels, reduction="none")
    right = logits.gather(1, labels[:, None])[:, 0]
    margin = logits.scatter(1, labels[:, None], -float("inf")).max(1).values - right
    if logits.shape[1] < 3:
        return margin
    ordered = logits.sort(1, descending=True).values
    return margin / (ordered[:, 0] - ordered[:, 2] + 1e-12)


class GradientAttack(Attack):
    """x_{t+1} = clip_{[0, 1]}(project(x_t + step_size * direction(grad_x loss(f(x_t), y)))), from the image or a random
    point of the ball.
    """

    #: Whether `accumulate` needs what it returned before.
    momentous: ClassVar[bool] = False

    engine: Literal["loop", "foolbox"] = "loop"
    """`loop`: this package's, with early exit; `foolbox`: foolbox's attack, image by image the same without early
    exit.
    """

    @abstractmethod
    def plan(self, size: float) -> tuple[int, float]:
        """Number of steps, and step size in pixel space."""

    @abstractmethod
    def foolbox(self, size: float) -> Any:
        """The foolbox attack that this is."""

    @property
    def starts_at_random(self) -> bool:
        return bool(getattr(self, "random_start", False))

    @property
    def climbs(self) -> Literal["ce", "dlr"]:
        return cast("Literal['ce', 'dlr']", getattr(self, "loss", "ce"))

    @property
    def ball(self) -> BallName:
        return cast("BallName", self.threat)

    def start(self, images: torch.Tensor, size: float, generators: list[torch.Generator]) -> torch.Tensor:
        from normbench.attacks._balls import random_starts

        return random_starts(images, size, self.ball, generators) if self.starts_at_random else images

    def direction(self, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        from normbench.attacks._balls import unit_step

        return unit_step(gradient, self.ball)

    def project(self, x: torch.Tensor, origin: torch.Tensor, size: float) -> torch.Tensor:
        from normbench.attacks._balls import project

        return project(x, origin, size, self.ball)

    def accumulate(self, gradient: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        """What the direction is taken of: the gradient itself, or with momentum a sum over steps; `velocity` is what
        the last step returned, at first 0.
        """
        return gradient

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        """All steps for all images, whether they are fooled or not."""
        begin = self.start(images, size, generators)
        if self.engine == "foolbox":
            return self._with_foolbox(model, images, labels, size, begin)
        steps, step_size = self.plan(size)
        x, velocity = begin, self._no_velocity(images)
        for _ in range(steps):
            _, gradient = self._look(model, x, labels)
            x, velocity = self._step(x, images, gradient, velocity, size, step_size)
        return x

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields an image at the step that fools it, or after the last step."""
        if self.engine == "foolbox":
            yield from super().examples(model, pool, index, size, batch_size)
            return
        steps, step_size = self.plan(size)
        waiting = index
        work: _Work | None = None
        while work is not None or len(waiting):
            free = batch_size - (0 if work is None else len(work.index))
            if len(waiting) and (work is None or free >= REFILL * batch_size):
                work = _join(work, self._admit(pool, waiting[:free], size))
                waiting = waiting[free:]
            assert work is not None  # noqa: S101
            logits, gradient = self._look(model, work.x, work.labels)
            fooled = _clearly_wrong(logits, work.labels)
            if fooled.any():
                yield work.index[fooled.cpu()], work.x[fooled]
                work, gradient = work.keep(~fooled), gradient[~fooled]
            work.x, work.velocity = self._step(work.x, work.origin, gradient, work.velocity, size, step_size)
            work.step += 1
            done = work.step == steps
            if done.any():
                yield work.index[done], work.x[done.to(work.x.device)]
                work = work.keep(~done.to(work.x.device))
            if not len(work.index):
                work = None

    def _admit(self, pool: Pool, chosen: torch.Tensor, size: float) -> _Work:
        import torch

        images, labels = pool.at(chosen)
        begin = self.start(images, size, pool.generators(self.name, chosen) if self.starts_at_random else [])
        return _Work(chosen, torch.zeros_like(chosen), images, labels, begin, self._no_velocity(images))

    def _no_velocity(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros(images.shape if self.momentous else (len(images), 1, 1, 1))

    def _look(self, model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at x, and the gradient of the loss there."""
        import torch

        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x)
            (gradient,) = torch.autograd.grad(loss_of(logits, labels, self.climbs).sum(), x)
        return logits.detach(), gradient

    def _step(
        self,
        x: torch.Tensor,
        origin: torch.Tensor,
        gradient: torch.Tensor,
        velocity: torch.Tensor,
        size: float,
        step_size: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        summed = self.accumulate(gradient, velocity)
        x = x + step_size * self.direction(summed, x)
        return self.project(x, origin, size).clamp(0, 1), summed if self.momentous else velocity

    def _with_foolbox(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: float, begin: torch.Tensor
    ) -> torch.Tensor:
        import eagerpy
        import foolbox

        attack = self.foolbox(size)
        # Random starts come from this package's per-image generators; foolbox would draw them from torch's global one.
        attack.random_start = self.starts_at_random
        attack.get_random_start = lambda *_: eagerpy.astensor(begin)
        attack.get_loss_fn = lambda attacked, classes: (
            lambda inputs: eagerpy.astensor(loss_of(attacked(inputs).raw, classes.raw, self.climbs).sum())
        )
        attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        return cast(
            "torch.Tensor",
            plain(attack.run(attacked, images, foolbox.criteria.Misclassification(labels), epsilon=size)),
        )


class _Work:
    """Images in work: where they come from (`index` and `step` on the CPU), where they started (`origin`) and where
    they are (`x`).
    """

    def __init__(
        self,
        index: torch.Tensor,
        step: torch.Tensor,
        origin: torch.Tensor,
        labels: torch.Tensor,
        x: torch.Tensor,
        velocity: torch.Tensor,
    ) -> None:
        self.index, self.step, self.origin, self.labels, self.x, self.velocity = (
            index,
            step,
            origin,
            labels,
            x,
            velocity,
        )

    def keep(self, mask: torch.Tensor) -> _Work:
        here = mask.cpu()
        return _Work(
            self.index[here], self.step[here], self.origin[mask], self.labels[mask], self.x[mask], self.velocity[mask]
        )


def _join(work: _Work | None, new: _Work) -> _Work:
    import torch

    if work is None:
        return new
    return _Work(
        *(
            torch.cat([getattr(work, name), getattr(new, name)])
            for name in ("index", "step", "origin", "labels", "x", "velocity")
        )
    )


def _clearly_wrong(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    right = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], -float("inf")).max(1).values
    return other - right > CLEARLY * logits.abs().max(1).values


#: Steps of an iterative attack.
Steps = Annotated[int, Field(ge=1, le=10_000)]
#: A step size in pixel space; None: 2.5 eps / steps, which can cross the ball (Madry et al. 2018).
StepSize = Annotated[float, Number, Field(gt=0, le=10_000)] | None


def default_step(size: float, steps: int) -> float:
    return 2.5 * size / steps
