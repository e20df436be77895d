"""A trained network on clean, noisy and corrupted images, by other statistics than those that training left.

Each number stands among the results of the attacks, named by the images and the statistics: `clean under precise`,
`noise under batch[size=64]`. The images are those of the row's other numbers: noise is drawn for each of them from the
trial's seed. Where they share statistics, which of them make a batch is drawn from that seed too, because test sets
may be sorted by class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from normbench.attacks.base import Attack, Pool
from normbench.lab import evaluate
from normbench.lab.machine import memory_of
from normbench.lab.train import Tensors
from normbench.spec.outcome import AttackResult
from normbench.spec.robustness import CLEAN, under
from normbench.spec.text import said
from normbench.statistics import Statistics
from normbench.statistics._layers import cut, keeping
from normbench.tensors.snapshot import Buffers, Random, Values

#: Perturbations that no gradient of the network decides.
THREATS = frozenset({"noise", "corruption"})
#: Why a network has no numbers by other statistics.
KEEPS_NONE = "no layer keeps running statistics"


@dataclass
class Restated:
    """What was found, and by which statistics nothing was, with the reason."""

    results: list[AttackResult] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def restated(
    model: nn.Module,
    wanted: Sequence[Statistics],
    methods: Sequence[Attack],
    test: Tensors,
    training: torch.Tensor | None,
    *,
    seed: int,
    batch_size: int,
    data_dir: str | None,
    report: Callable[[str, float], None] = lambda name, done: None,
) -> Restated:
    """Evaluate `model` by each of the statistics on the images as they are, and under those of `methods` that are
    noises or corruptions. The model, its random streams included, is left bit for bit as it was.

    training: training images as they are stored, for statistics that are made from them. batch_size: images in work at
    once where none depends on another. report: gets the name of the statistics and the share of the work that is done.
    """
    found = Restated()
    layers = keeping(model)
    parts = [part for method in methods for part in method.parts() if part.threat in THREATS]
    images: list[tuple[Attack | None, float]] = [(None, 0.0), *((part, size) for part in parts for size in part.sizes)]
    pool = Pool(images=test.images, labels=test.labels, seed=seed, data_dir=data_dir)
    for statistics in wanted:
        if not layers:
            found.absent[statistics.setting] = KEEPS_NONE
            continue
        run = _Run(model, layers, statistics, pool, batch_size)
        kept = (Values(model.parameters()), Buffers(model), Random(model))
        try:
            with evaluate.evaluating(model):
                results = []
                try:
                    if statistics.of_training and training is None:
                        raise evaluate.EvaluationError("it is made from training images, and there are none")
                    statistics.prepare(model, layers, test.images[:0] if training is None else training)
                    for place, (method, size) in enumerate(images):
                        results.append(run.scored(method, size))
                        report(statistics.setting, (place + 1) / len(images))
                finally:
                    for part in kept:
                        part.restore()
        except Exception as error:  # a layer may refuse a batch, and is foreign code
            if memory_of(error):
                raise
            found.absent[statistics.setting] = f"{type(error).__name__}: {said(error)}"
        else:
            found.results += results
    return found


@dataclass(frozen=True)
class _Run:
    model: nn.Module
    layers: Sequence[nn.Module]
    statistics: Statistics
    pool: Pool
    batch_size: int

    def scored(self, part: Attack | None, size: float) -> AttackResult:
        """The images under `part` at `size`; as they are without one."""
        started = time.perf_counter()
        correct = torch.zeros(len(self.pool.labels), dtype=torch.bool)
        for index, images in self._batches(part, size):
            with torch.no_grad(), self.statistics.applied(self.layers):
                logits = self.model(images)
            if not torch.isfinite(logits).all():
                raise evaluate.EvaluationError("the logits are not finite")
            labels = self.pool.labels[index.to(self.pool.labels.device)]
            correct[index] = (logits.argmax(1) == labels).cpu()
        return AttackResult(
            attack=under(part.setting if part else CLEAN, self.statistics.setting),
            threat=part.threat if part else CLEAN,
            size=size,
            correct=int(correct.sum()),
            total=len(correct),
            outcomes=evaluate.pack(correct),
            seconds=time.perf_counter() - started,
            model_calls=len(correct),
        )

    def _batches(self, part: Attack | None, size: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Numbers of images, and the images, (n, C, H, W) in [0, 1], in the batches that share their statistics."""
        count = len(self.pool.labels)
        if self.statistics.batch is None:
            chosen = cut(torch.arange(count), self.batch_size)
        else:
            generator = torch.Generator().manual_seed(self.pool.seed_of("batches of statistics", 0))
            chosen = cut(torch.randperm(count, generator=generator), self.statistics.batch)
        for index in chosen:
            if part is None:
                yield index, self.pool.at(index)[0]
            else:
                made = list(part.examples(self.model, self.pool, index, size, self.batch_size))
                yield torch.cat([i for i, _ in made]), torch.cat([images for _, images in made])
