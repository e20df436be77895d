"""A small table, trained twice: by a loop of plain PyTorch that stands here, network, batches and all, and by us.

The numbers of the loop stand in `normbench.published.tables` beside those of the suite `published-small`. Run this file
as a script to train the loop's side of the table: `python -m tests.lab.test_plain_loop`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from normbench.lab import data as datasets
from normbench.lab.trial_run import Context, run
from normbench.paths import shipped
from normbench.spec.outcome import Status
from normbench.spec.trial import Trial
from normbench.suite import expand, load
from scipy import stats
from torch import nn

SUITE = shipped("suites") / "published-small.yaml"
DATA = Path(os.environ.get("BENCH_DATA", "."))
#: Confidence of the interval that the difference of the two means must hold zero in.
SURE = 0.99


class Block(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride=1 if before == width else 2, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.second(torch.relu(self.norms[0](self.first(x)))))
        if y.shape != x.shape:
            x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(y[:, x.shape[1] :])], 1)
        return torch.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width] * 4 + [2 * width] * 3 + [4 * width] * 3
        self.blocks = nn.Sequential(*map(Block, widths, widths[1:]))
        self.head = nn.Linear(4 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, 0, math.sqrt(2 / layer.weight[0].numel()))
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.blocks(torch.relu(self.norm(self.stem(images)))).mean((2, 3)))
        return y


def augmented(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each image shifted by up to an eighth of its side, and mirrored half of the time."""
    margin, side = images.shape[-1] // 8, images.shape[-1]
    padded = nn.functional.pad(images, (margin,) * 4)
    moved = []
    for image in padded:
        top, left = rng.integers(0, 2 * margin + 1, 2)
        window = image[:, top : top + side, left : left + side]
        moved.append(window.flip(2) if rng.random() < 0.5 else window)
    return torch.stack(moved)


def plain(trial: Trial, dataset: datasets.Dataset, seed: int) -> float:
    """Test accuracy of the loop's own network. Of `trial` only the numbers of the recipe are read."""
    torch.manual_seed(1000 + seed)
    rng = np.random.default_rng(1000 + seed)
    assert dataset.test is not None
    train, test = (torch.from_numpy(s.images.copy()).permute(0, 3, 1, 2) / 255.0 for s in (dataset.train, dataset.test))
    labels, truth = (torch.tensor(s.labels) for s in (dataset.train, dataset.test))
    mean, deviation = (getattr(train, k)((0, 2, 3)).view(1, 3, 1, 1) for k in ("mean", "std"))
    model = ResNet20(round(16 * trial.model.width), len(dataset.classes))
    spec, size = trial.train, trial.batch_size
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": rest}], lr=spec.lr, momentum=spec.momentum
    )
    steps = spec.epochs * (len(train) // size)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4], 0.1)
    for _ in range(spec.epochs):
        model.train()
        order = rng.permutation(len(train))
        for start in range(0, len(train) - size + 1, size):
            index = order[start : start + size]
            images = (augmented(train[index], rng) - mean) / deviation
            loss = nn.functional.cross_entropy(model(images), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((model.eval()((test - mean) / deviation).argmax(1) == truth).double().mean())


def dataset_of(trial: Trial) -> tuple[datasets.Dataset, dict[str, Any]]:
    source = datasets.locate(trial.data, DATA, download=False)
    assert source is not None
    found = datasets.fingerprint(source)
    return datasets.load(trial.data, source, found), {"data_dir": str(DATA), "fingerprint": found}


def ours(trial: Trial, context: dict[str, Any]) -> float:
    outcome = run(trial.model_copy(update={"attacks": (), "measures": ()}), Context(**context), lambda _: None)
    assert outcome.status is Status.OK, outcome.log
    return (outcome.clean_correct or 0) / (outcome.test_total or 1)


def agree(a: Sequence[float], b: Sequence[float], most: float) -> None:
    """Both means are the same within the interval of Welch's test over the seeds, whose half is at most `most`."""
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(SURE)
    told = f"loop {a}, ours {b}: {low:+.3f} to {high:+.3f}"
    assert low <= 0 <= high, told
    assert high - low <= 2 * most, told


@pytest.mark.skipif(not (DATA / "cifar10-jpeg").is_dir(), reason="there is no cifar10-jpeg in the data folder")
@pytest.mark.matrix
def test_a_narrow_resnet20_does_as_well_as_in_the_plain_loop() -> None:
    trials = expand(load(SUITE))
    dataset, context = dataset_of(trials[0])
    agree([plain(t, dataset, t.seed) for t in trials], [ours(t, context) for t in trials], 0.1)


if __name__ == "__main__":
    for one in expand(load(SUITE)):
        print(one.seed, plain(one, dataset_of(one)[0], one.seed), flush=True)
