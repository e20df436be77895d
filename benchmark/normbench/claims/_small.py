"""Many small networks trained at once on the digits that ship with the package: a seed each, side by side in one
tensor, with the layers of the registered methods.

A network is an MLP of 64 inputs. Every method at a seed starts from the same weights and sees the same batches, so that
differences pair by seed. Data: the digits at 8x8, standardized; half of them are for training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from normbench.lab.data import load, locate
from normbench.norms import ActivationNorm, Site, WeightNorm, registry
from normbench.spec.trial import DataSpec
from normbench.studies._stats import Array

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": torch.relu, "sigmoid": torch.sigmoid}
#: Methods whose statistics are those of one example: seeds are examples more to them.
PER_EXAMPLE = frozenset({"ln", "gn", "gw", "rms", "frn", "in"})


@dataclass(frozen=True)
class Training:
    """Settings of a training. rates: one for every seed, or several, for each of which all seeds are trained."""

    norm: str = "none"
    depth: int = 3
    width: int = 32
    activation: str = "relu"
    batch: int = 32
    steps: int = 120
    rates: tuple[float, ...] = (0.1,)
    seeds: int = 8
    first: int = 0
    scale: float = 1.0
    """Of the initial weights, over sqrt(2 / fan-in)."""
    dropout: float = 0.0
    noise: float = 0.0
    """Deviation of mean and of log-scale of the noise behind every norm, drawn anew at every forward for each unit."""
    images: int = 900


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 64), standardized, and labels (N,)."""
    spec = DataSpec(dataset="digits")
    found = load(spec, locate(spec, None, download=False))
    parts = [found.train] + ([found.test] if found.test else [])
    images = torch.from_numpy(np.concatenate([p.images for p in parts])).flatten(1).float()
    labels = torch.from_numpy(np.concatenate([p.labels for p in parts]))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = images[order]
    return (images - images.mean()) / images.std(), labels[order]


class Dense(nn.Module):
    """(S, B, in) to (S, B, out): a linear layer of each of S networks. Weight methods are those of the registry."""

    def __init__(self, weights: torch.Tensor, method: WeightNorm | None) -> None:
        super().__init__()
        self.networks, self.out, fan_in = weights.shape
        self.rows = nn.Linear(fan_in, self.networks * self.out, bias=False)
        with torch.no_grad():
            self.rows.weight.copy_(weights.flatten(0, 1))
        if method is not None:
            method.wrap(self.rows)
        self.bias = nn.Parameter(torch.zeros(self.networks, 1, self.out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.rows.weight.view(self.networks, self.out, -1)
        made: torch.Tensor = torch.baddbmm(self.bias, x, weight.mT)
        return made


class Normed(nn.Module):
    """(S, B, H) to the same: a method's layer in each of S networks, with a gamma and beta of each unit."""

    def __init__(self, method: ActivationNorm, networks: int, units: int) -> None:
        super().__init__()
        self.per_example = method.name in PER_EXAMPLE
        channels = units if self.per_example else networks * units
        site = Site(name="small", channels=channels, eps=1e-5, momentum=0.1, affine=False, positions=1)
        self.layer = method.layer(site)
        self.gamma = nn.Parameter(torch.ones(networks, 1, units))
        self.beta = nn.Parameter(torch.zeros(networks, 1, units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        networks, batch, units = x.shape
        if self.per_example:
            y = self.layer(x.reshape(-1, units)).view(x.shape)
        else:
            y = self.layer(x.transpose(0, 1).reshape(batch, -1)).view(batch, networks, units).transpose(0, 1)
        made: torch.Tensor = self.gamma * y + self.beta
        return made


class Networks(nn.Module):
    """S networks side by side: images (S, B, 64) to logits (S, B, 10)."""

    def __init__(self, of: Training) -> None:
        super().__init__()
        self.of = of
        method = registry.parse(of.norm)
        copies, sizes = len(of.rates), [64] + [of.width] * of.depth + [10]
        self.networks = copies * of.seeds
        weight_method = method if isinstance(method, WeightNorm) else None
        made = []
        for k in range(of.depth + 1):
            starts = []
            for seed in range(of.first, of.first + of.seeds):
                generator = torch.Generator().manual_seed(1000 * seed + k)
                weights = torch.randn(sizes[k + 1], sizes[k], generator=generator)
                starts.append(weights * of.scale * math.sqrt((2 if k < of.depth else 1) / sizes[k]))
            # The last layer feeds no norm and is left as it is.
            made.append(Dense(torch.stack(starts).repeat(copies, 1, 1), weight_method if k < of.depth else None))
        self.dense = nn.ModuleList(made)
        self.norms = nn.ModuleList(
            Normed(method, self.networks, of.width) if isinstance(method, ActivationNorm) else nn.Identity()
            for _ in range(of.depth)
        )
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        self.inputs.clear()
        for dense, norm in zip(self.dense[:-1], self.norms, strict=True):
            x = dense(x)
            self.inputs.append(x)
            x = norm(x)
            if self.of.noise:
                means, scales = torch.randn(2, self.networks, 1, x.shape[2], generator=generator) * self.of.noise
                x = x * torch.exp(scales) + means + self.of.noise
            x = ACTIVATIONS[self.of.activation](x)
            if self.training and self.of.dropout:
                kept = torch.rand(x.shape, generator=generator) >= self.of.dropout
                x = x * kept / (1 - self.of.dropout)
        logits: torch.Tensor = self.dense[-1](x)
        return logits


@dataclass(frozen=True)
class Trained:
    """accuracy: (rates, seeds), on the images that were not trained on."""

    accuracy: Array
    networks: Networks

    @property
    def best(self) -> Array:
        """(seeds,): accuracy of each network at the best of the rates."""
        found: Array = self.accuracy.max(axis=0)
        return found


def batches(of: Training, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images (S, B, 64) and labels (S, B) of each step: those of a seed are the same under all settings."""
    images, labels = digits()
    streams = [torch.Generator().manual_seed(77 + s) for s in range(of.first, of.first + of.seeds)]
    for _ in range(steps):
        chosen = torch.stack([torch.randint(of.images, (of.batch,), generator=g) for g in streams])
        chosen = chosen.repeat(len(of.rates), 1)
        yield images[chosen], labels[chosen]


@lru_cache(64)
def train(of: Training) -> Trained:
    """Train, by plain SGD."""
    networks = Networks(of).train()
    generator = fit(networks, of.steps)
    return Trained(evaluate(networks, generator).numpy().astype(float).reshape(len(of.rates), of.seeds), networks)


def fit(networks: Networks, steps: int, after: Callable[[], None] | None = None) -> torch.Generator:
    """Take steps from where the networks are; gives the stream of their noise and drop-out. after: called behind each
    step.
    """
    of = networks.of
    lr = torch.tensor(of.rates).repeat_interleave(of.seeds)
    optimizer = torch.optim.SGD(networks.parameters(), lr=1.0)
    generator = torch.Generator().manual_seed(of.first)
    for images, labels in batches(of, steps):
        logits = networks(images, generator)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        optimizer.zero_grad()
        (loss.view(len(lr), -1).mean(1) * lr).sum().backward()  # type: ignore[no-untyped-call]
        _forget_lost(networks)
        optimizer.step()
        if after is not None:
            after()
    return generator


def _forget_lost(networks: Networks) -> None:
    """A network that diverged must not spoil its neighbours' numbers; its own stay what they are."""
    for parameter in networks.parameters():
        if parameter.grad is not None:
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0).clamp_(-1e6, 1e6)


@torch.no_grad()
def evaluate(networks: Networks, generator: torch.Generator) -> torch.Tensor:
    """(S,): accuracy on the images that were not trained on, in eval mode; 0.1 where a network has diverged."""
    images, labels = digits()
    held = slice(networks.of.images, None)
    was = networks.training
    networks.eval()
    logits = networks(images[held].expand(networks.networks, -1, -1), generator)
    networks.train(was)
    right = (logits.argmax(2) == labels[held]).float().mean(1)
    return torch.where(logits.isfinite().all(2).all(1), right, 0.1)
