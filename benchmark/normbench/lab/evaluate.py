"""Evaluation: clean accuracy, noise and attacks over a trial's test images, in float32, one bit an image.

An attack runs at its sizes in ascending order, on the images that are still classified correctly. An image that falls
at one size counts as fallen at every larger one, whose ball contains the smaller ball. Noise and corruptions have no
ball; they are applied to every image at every size. An image falls if its perturbed version is classified wrongly,
which is asked here and not in the attack, and if the perturbation is within its ball and [0, 1]. Attacks may climb the
gradients of a faster model (`normbench.lab.engine.gradients`). If only the faster model calls an image fooled, the
image is attacked again without it. Random draws are seeded by trial and image, so results do not depend on how images
are batched (with a faster model: up to its rounding).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from normbench.attacks.base import BALLS, Attack, Pool
from normbench.lab.engine.gradients import CompiledGradients
from normbench.lab.train import Tensors
from normbench.spec.outcome import AttackResult
from normbench.spec.robustness import unpack
from normbench.tensors.snapshot import unchanging

__all__ = ["Clean", "EvaluationError", "attack", "clean", "evaluating", "pack", "pixels", "predict", "unpack"]

#: Rounding that a step, a projection and a clip in float32 may add to a perturbation; relative to the radius where that
#: is above 1.
SIZE_TOLERANCE = 1e-6


class EvaluationError(RuntimeError):
    """The model or the attack broke a rule without which its numbers mean nothing."""


@dataclass(frozen=True)
class Clean:
    """Outcome on unperturbed images: `correct` bool (N,) on the CPU, mean cross-entropy."""

    correct: torch.Tensor
    loss: float


def pack(correct: torch.Tensor) -> bytes:
    """Bool (N,) to packed bits, first image in the highest bit."""
    return np.packbits(correct.numpy()).tobytes()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode, its parameters need no gradients, and float32 has its full precision. Raises
    `EvaluationError` where a buffer has moved meanwhile.
    """
    before = {name: b.clone() for name, b in model.named_buffers()}
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with unchanging(model):
            yield
        moved = [name for name, b in model.named_buffers() if not torch.equal(b, before[name])]
        if moved:
            raise EvaluationError(f"evaluation changed the model's state: {', '.join(moved[:3])}")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits without gradient, checked to be finite: a NaN must never count as a prediction."""
    finite = Finite()
    with torch.no_grad():
        logits = finite.noted(_logits(model, images))
    finite.settle()
    return logits


class Finite:
    """Whether all logits so far were finite. It is noted on the device, where nobody waits for it."""

    def __init__(self) -> None:
        self._all: torch.Tensor | None = None

    def noted(self, logits: torch.Tensor) -> torch.Tensor:
        """The same logits."""
        finite = torch.isfinite(logits.detach()).all()
        self._all = finite if self._all is None else self._all & finite
        return logits

    def settle(self) -> None:
        """Raise `EvaluationError` if some were not."""
        if self._all is not None and not self._all:
            raise EvaluationError("the logits are not finite")


def _logits(model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    # Libraries multiply a single row by another kernel, which rounds differently. An image must get the same bits alone
    # as in a batch.
    logits: torch.Tensor = model(images) if len(images) > 1 else model(images.expand(2, *images.shape[1:]))[:1]
    return logits


def pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as float32 in [0, 1]: uint8 is divided by 255, floats are in [0, 1] already."""
    return images.float() if images.is_floating_point() else images.float() / 255


def clean(model: nn.Module, data: Tensors, batch_size: int) -> Clean:
    """Predictions on every image of `data`."""
    correct, finite = [], Finite()
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    with evaluating(model), torch.no_grad():
        for start in range(0, len(data.labels), batch_size):
            labels = data.labels[start : start + batch_size]
            logits = finite.noted(_logits(model, pixels(data.images[start : start + batch_size])))
            correct.append(logits.argmax(1) == labels)
            loss += functional.cross_entropy(logits, labels, reduction="sum")
    finite.settle()
    return Clean(torch.cat(correct).cpu(), float(loss) / len(data.labels))


class Counted(nn.Module):
    """The model as attacks see it: counts the images that go through, and notes whether logits are finite.

    search: the faster model that answers attacks; None: the model itself.
    """

    def __init__(self, model: nn.Module, search: CompiledGradients | None = None) -> None:
        super().__init__()
        self.model = model
        self.search = search
        self.images = 0
        self.finite = Finite()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        return self.finite.noted(_logits(self.search or self.model, images))

    def verdict(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Bool (N,) on the CPU: which images the model itself classifies correctly. Raises `EvaluationError` where its
        logits, or those that attacks have seen since, are not finite.
        """
        self.images += len(images)
        with torch.no_grad():
            logits = self.finite.noted(_logits(self.model, images))
        self.finite.settle()
        return (logits.argmax(1) == labels).cpu()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What an attack makes of logits that are not finite is not what it should be blamed for."""
        try:
            yield
        except EvaluationError:
            raise
        except Exception as error:
            try:
                self.finite.settle()
            except EvaluationError as cause:
                raise cause from error
            raise
        self.finite.settle()


def attack(
    model: nn.Module,
    method: Attack,
    data: Tensors,
    correct: torch.Tensor,
    *,
    seed: int,
    batch_size: int,
    data_dir: str | None = None,
    report: Callable[[float], None] = lambda _: None,
    search: CompiledGradients | None = None,
) -> list[AttackResult]:
    """Perturb with one method at all its sizes.

    `correct`: bool (N,), which images are classified correctly as they are. `data_dir`: where attacks that read stored
    images find them. `report` gets the share of the work that is done. `search`: a faster model, which answers the
    attack where it is on a ball. Raises `EvaluationError` when logits are not finite or a perturbation leaves its ball
    or [0, 1].
    """
    results: list[AttackResult] = []
    pool = Pool(images=data.images, labels=data.labels, seed=seed, data_dir=data_dir)
    parts = method.parts()
    with evaluating(model):
        for position, part in enumerate(parts):
            run = _Run(
                model,
                part,
                pool,
                correct,
                batch_size,
                report=partial(_report_part, report, position, len(parts)),
                search=search if part.threat in BALLS else None,
            )
            results += run.minimal() if part.minimal else run.by_size()
    return results


def _report_part(report: Callable[[float], None], position: int, parts: int, done: float) -> None:
    report((position + done) / parts)


@dataclass
class _Run:
    """One method on the test images of a trial."""

    model: nn.Module
    method: Attack
    pool: Pool
    correct: torch.Tensor
    batch_size: int
    report: Callable[[float], None]
    search: CompiledGradients | None

    def by_size(self) -> list[AttackResult]:
        results, survivors = [], self.correct.clone()
        for position, size in enumerate(self.method.sizes):
            counted, started = Counted(self.model, self.search).eval(), time.perf_counter()
            candidates = (
                survivors.nonzero().flatten() if self.method.threat in BALLS else torch.arange(len(self.correct))
            )
            survived, largest = torch.zeros_like(self.correct), None
            for restart in range(self.method.attempts):
                if not len(candidates):
                    break
                report = partial(self._report_attempt, position, restart)
                pool = replace(self.pool, restart=restart)
                largest, doubted = self._try(counted, pool, candidates, size, survived, largest, report)
                if len(doubted):
                    counted.search = None
                    largest, _ = self._try(counted, pool, doubted, size, survived, largest, report)
                    counted.search = self.search
                candidates = survived.nonzero().flatten()
            survivors = survived
            results.append(self._result(size, survived, started, counted, largest))
        return results

    def _report_attempt(self, position: int, restart: int, done: float) -> None:
        self.report((position + (restart + done) / self.method.attempts) / len(self.method.sizes))

    def _try(
        self,
        counted: Counted,
        pool: Pool,
        candidates: torch.Tensor,
        size: float,
        survived: torch.Tensor,
        largest: torch.Tensor | None,
        report: Callable[[float], None],
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Attack `candidates` once and note in `survived` (N,) which of them are still classified correctly.

        Returns the largest perturbation so far, and the candidates that only the searched model calls fooled.
        """
        done, doubted = 0, []
        for index, perturbed in self._found(counted, pool, candidates, size):
            if counted.search and counted.search.overflowed():
                survived[index] = True
                doubted.append(index)
            else:
                largest = _larger(largest, self._check(size, index, perturbed))
                survived[index] = stands = counted.verdict(perturbed, self._labels(index))
                doubted.append(self._doubted(counted, index, perturbed, stands))
            done += len(index)
            report(done / len(candidates))
        return largest, torch.cat(doubted) if doubted else candidates[:0]

    def _found(
        self, counted: Counted, pool: Pool, candidates: torch.Tensor, size: float
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What the attack makes of `candidates`, in batches. Raises `EvaluationError` where that is not all of them."""
        done = 0
        with counted.asked():
            for index, perturbed in _together(
                self.method.examples(counted, pool, candidates, size, self.batch_size), self.batch_size
            ):
                done += len(index)
                yield index, perturbed
        if done != len(candidates):
            raise EvaluationError(f"{self.method.setting} at {size:g} returned {done} images of {len(candidates)}")

    def _doubted(
        self, counted: Counted, index: torch.Tensor, perturbed: torch.Tensor, stands: torch.Tensor
    ) -> torch.Tensor:
        """Those of `index` that stand, though the search calls them fooled."""
        if counted.search is None or not stands.any():
            return index[:0]
        counted.images += int(stands.sum())
        thought = counted.search.thinks_wrong(perturbed[stands.to(perturbed.device)], self._labels(index[stands]))
        return index[stands][thought.cpu()]

    def _labels(self, index: torch.Tensor) -> torch.Tensor:
        return self.pool.labels[index.to(self.pool.labels.device)]

    def minimal(self) -> list[AttackResult]:
        """Run an attack once that seeks the smallest perturbation. An image has fallen at every size that is at least
        its perturbation's. Seconds and model calls are those of the smallest size.
        """
        counted, started = Counted(self.model, self.search).eval(), time.perf_counter()
        reach = torch.where(self.correct, torch.inf, 0.0).double()
        doubted = self._reach(counted, self.correct.nonzero().flatten(), reach)
        if len(doubted):
            counted.search = None
            self._reach(counted, doubted, reach)
        results = []
        for size in self.method.sizes:
            within = self.correct & (reach <= size)
            results.append(
                self._result(size, self.correct & ~within, started, counted, reach[within] if within.any() else None)
            )
            counted, started = Counted(self.model), time.perf_counter()
        return results

    def _reach(self, counted: Counted, candidates: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
        """Attack `candidates` once, and note the size of what fools each in `reach` (N,). Returns the candidates that
        only the searched model calls fooled.
        """
        done, doubted = 0, []
        for index, perturbed in self._found(counted, self.pool, candidates, self.method.sizes[-1]):
            if counted.search and counted.search.overflowed():
                doubted.append(index)
            else:
                distances = self._check(None, index, perturbed)
                stands = counted.verdict(perturbed, self._labels(index))
                reach[index[~stands]] = distances[~stands]
                doubted.append(self._doubted(counted, index, perturbed, stands))
            done += len(index)
            self.report(done / len(candidates))
        return torch.cat(doubted) if doubted else candidates[:0]

    def _check(self, size: float | None, index: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """The size of each perturbation, float64 on the CPU; empty where the threat is no ball. `size`: the limit, None
        for no limit.
        """
        name = self.method.setting if size is None else f"{self.method.setting} at {size:g}"
        images, _ = self.pool.at(index)
        if perturbed.shape != images.shape or not torch.isfinite(perturbed).all():
            raise EvaluationError(f"{name} returned images of another shape or with non-finite pixels")
        if self.method.threat != "standardised" and (float(perturbed.min()) < 0 or float(perturbed.max()) > 1):
            raise EvaluationError(f"{name} left the pixel range [0, 1]")
        if self.method.threat not in BALLS:
            return torch.empty(0)
        order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[self.method.threat]
        distances: torch.Tensor = torch.linalg.vector_norm(
            (perturbed.double() - images.double()).flatten(1), order, dim=1
        ).cpu()
        if size is not None and float(distances.max()) > size + SIZE_TOLERANCE * max(1.0, size):
            raise EvaluationError(f"{name} returned a perturbation of size {float(distances.max()):g}")
        return distances

    def _result(
        self, size: float, survived: torch.Tensor, started: float, counted: Counted, distances: torch.Tensor | None
    ) -> AttackResult:
        return AttackResult(
            attack=self.method.setting,
            threat=self.method.threat,
            size=size,
            correct=int(survived.sum()),
            total=len(survived),
            outcomes=pack(survived),
            seconds=time.perf_counter() - started,
            model_calls=counted.images,
            largest=None if distances is None or not len(distances) else float(distances.max()),
        )


def _larger(known: torch.Tensor | None, distances: torch.Tensor) -> torch.Tensor | None:
    if not len(distances):
        return known
    return distances.max()[None] if known is None else torch.maximum(known, distances.max())


def _together(
    found: Iterable[tuple[torch.Tensor, torch.Tensor]], batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The same pairs of indices and images, gathered to batches that are worth a forward pass."""
    indices: list[torch.Tensor] = []
    images: list[torch.Tensor] = []
    for index, perturbed in found:
        indices.append(index)
        images.append(perturbed.detach())
        if sum(map(len, indices)) >= batch_size:
            yield torch.cat(indices), torch.cat(images)
            indices, images = [], []
    if indices:
        yield torch.cat(indices), torch.cat(images)
