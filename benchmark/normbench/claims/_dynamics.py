"""A network whose weights are multiplied layer by layer: what happens to inputs and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from normbench.claims._layers import layer, normal

ALPHAS = (0.5, 3.0, 2.0, 1.25)
Ratios = dict[str, list[float]]


def plain(alphas: Sequence[float]) -> Ratios:
    """The row of the table without normalization. Input k is what layer k gives, so the product runs up to k."""
    k = range(len(alphas))
    return {
        "layer inputs": [math.prod(alphas[: i + 1]) for i in k],
        "output gradients": [math.prod(alphas[i + 1 :]) for i in k],
        "weight gradients": [math.prod(alphas[:i]) * math.prod(alphas[i + 1 :]) for i in k],
    }


def normalized(alphas: Sequence[float]) -> Ratios:
    """The row of the table with normalization."""
    inverse = [1 / a for a in alphas]
    return {"layer inputs": [1.0] * len(alphas), "output gradients": inverse, "weight gradients": list(inverse)}


def ratios(method: str, loss: str, seed: int) -> Ratios:
    """Of each layer, lengths with the weights multiplied over lengths without. loss: `linear` in the output, or
    `cross-entropy`.
    """
    a, b = (_lengths(method, loss, seed, alphas) for alphas in (ALPHAS, (1.0,) * len(ALPHAS)))
    return {what: [x / y for x, y in zip(a[what], b[what], strict=True)] for what in a}


def _lengths(method: str, loss: str, seed: int, alphas: Sequence[float]) -> Ratios:
    x = normal(seed, 64, 12)
    weights = [(a * normal(seed, 12, 12, stream=i + 1) / 3).requires_grad_() for i, a in enumerate(alphas)]
    inputs, outputs = [], []
    for weight in weights:
        h = x @ weight.mT
        h.retain_grad()
        outputs.append(h)
        x = layer(method, 12)(h).relu()
        inputs.append(x)
    if loss == "linear":
        total = (x * normal(seed, *x.shape, stream=50)).mean()
    else:
        total = functional.cross_entropy(x, torch.arange(len(x)) % 12)
    total.backward()  # type: ignore[no-untyped-call]
    norms = {
        "layer inputs": inputs,
        "output gradients": [h.grad for h in outputs],
        "weight gradients": [w.grad for w in weights],
    }
    return {what: [float(t.detach().norm()) for t in several if t is not None] for what, several in norms.items()}
