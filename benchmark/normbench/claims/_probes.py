"""Looks at small networks that stand side by side: gradients at displaced weights, curvature, conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch.nn import functional

from normbench.claims._small import Networks, Training, batches, train
from normbench.measures.conditioning import partial_condition
from normbench.studies._stats import Array

Tensors = Sequence[torch.Tensor]


def of_rows(networks: Networks, tensors: Tensors) -> list[torch.Tensor]:
    """Parameters or gradients as (S, values): each belongs to one network, whose rows come together."""
    return [t.reshape(networks.networks, -1) for t in tensors]


def batch_of(of: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """A large batch of each network."""
    return next(batches(Training(**{**vars(of), "batch": 256}), 1))


def losses(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(S,): the mean cross-entropy of each network in training mode."""
    logits = networks(images)
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(networks.networks, -1).mean(1)


def gradients(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> Tensors:
    """Of all parameters; blocks of different networks do not mix."""
    return torch.autograd.grad(losses(networks, images, labels).sum(), list(networks.parameters()))


@torch.no_grad()
def move(networks: Networks, by: Tensors, factor: float, only: slice = slice(None)) -> None:
    """Add `factor` times `by` to the parameters, or to some of them."""
    for parameter, part in list(zip(networks.parameters(), by, strict=True))[only]:
        parameter.add_(factor * part)


@cache
def smoothness(of: Training, sizes: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)) -> Array:
    """(S,): effective beta-smoothness along the gradient after training: max |g(w - s g) - g| / (s |g|)."""
    networks = train(of).networks
    images, labels = batch_of(of)
    here = gradients(networks, images, labels)
    flat = torch.cat(of_rows(networks, here), 1)
    worst = torch.zeros(networks.networks)
    for size in sizes:
        move(networks, here, -size)
        there = torch.cat(of_rows(networks, gradients(networks, images, labels)), 1)
        move(networks, here, size)
        worst = torch.maximum(worst, (there - flat).norm(dim=1) / (size * flat.norm(dim=1)))
    return worst.double().numpy()


@cache
def shift(of: Training, rate: float) -> Array:
    """(S,): |G - G'| / |G| of the last hidden layer's weight when all layers before it take a step of SGD."""
    networks = train(of).networks
    images, labels = batch_of(of)
    named = [name for name, _ in networks.named_parameters()]
    last = next(i for i, name in enumerate(named) if name.startswith(f"dense.{of.depth - 1}.") and "bias" not in name)
    earlier = [i for i, name in enumerate(named) if int(name.split(".")[1]) < of.depth - 1]
    here = gradients(networks, images, labels)
    step = [g if i in earlier else torch.zeros_like(g) for i, g in enumerate(here)]
    move(networks, step, -rate)
    there = gradients(networks, images, labels)[last].reshape(networks.networks, -1)
    move(networks, step, rate)
    g = here[last].reshape(networks.networks, -1)
    found: Array = ((there - g).norm(dim=1) / g.norm(dim=1)).double().numpy()
    return found


@cache
def largest_curvature(of: Training, steps: int = 20) -> Array:
    """(S,): the largest eigenvalue of the Hessian in size, by power iteration."""
    networks = train(of).networks
    images, labels = batch_of(of)
    parameters = list(networks.parameters())
    slopes = torch.autograd.grad(losses(networks, images, labels).sum(), parameters, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vector: Tensors = [torch.randn(p.shape, generator=generator) for p in parameters]
    length = torch.ones(networks.networks)
    for _ in range(steps):
        length = torch.cat(of_rows(networks, vector), 1).norm(dim=1)
        vector = [
            (rows / length[:, None]).view(p.shape)
            for rows, p in zip(of_rows(networks, vector), parameters, strict=True)
        ]
        vector = torch.autograd.grad(slopes, parameters, vector, retain_graph=True)
    found: Array = torch.cat(of_rows(networks, vector), 1).norm(dim=1).double().numpy()
    return found


@cache
def conditioning(of: Training, share: float) -> tuple[Array, Array]:
    """(S,) each: log2 of lambda_1 / lambda_(share d) of the second moments of what the last hidden layer takes, and of
    the gradient to what it gives.
    """
    networks = train(of).networks
    images, labels = batch_of(of)
    taken: list[torch.Tensor] = []
    dense = networks.dense[of.depth - 1]
    hook = dense.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    total = losses(networks, images, labels).sum()
    hook.remove()
    (slope,) = torch.autograd.grad(total, networks.inputs[of.depth - 1])
    found = []
    for signal in (taken[0].detach(), slope):
        moments = signal.double().mT @ signal.double()
        kappas = [next(iter(partial_condition(m, (share,)))) for m in moments]
        found.append(np.array([np.nan if k is None else np.log2(k) for k in kappas]))
    return found[0], found[1]
