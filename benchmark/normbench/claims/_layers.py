"""Layers and numbers for claims: methods of the registry with an eps of nearly nothing, float64, fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from normbench.norms import ActivationNorm, Site, WeightNorm, registry
from normbench.norms._bench import TINY_EPS, Bench, apart, tiny

__all__ = [
    "TINY_EPS",
    "Bench",
    "apart",
    "covariance",
    "effective",
    "layer",
    "made",
    "normal",
    "orthogonality",
    "tiny",
    "unmet",
]

Function = Callable[[torch.Tensor], torch.Tensor]


def normal(seed: int, *shape: int, stream: int = 0) -> torch.Tensor:
    """Standard normal numbers in float64; other streams of one seed are independent."""
    generator = torch.Generator().manual_seed(1000 * seed + stream)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def layer(text: str, channels: int, *, eps: float = TINY_EPS, activated: bool = False) -> nn.Module:
    """The layer of an activation method (`gn[groups=4]`) for `(N, C, *)`, in training mode, float64."""
    method = registry.parse(text)
    if not isinstance(method, ActivationNorm):
        raise TypeError(f"{text} is no activation method")
    site = Site(name="claim", channels=channels, eps=eps, momentum=1.0, activated=activated)
    chosen = tiny(method) if eps == TINY_EPS else method
    built: nn.Module = chosen.layer(site)  # type: ignore[attr-defined]
    return built.double().train().requires_grad_(requires_grad=False)


def made(text: str, x: torch.Tensor, *, gamma: float = 1.0, beta: float = 0.0) -> torch.Tensor:
    """What an activation method makes of `(N, C, *)` in training."""
    module = layer(text, x.shape[1])
    for name, value in (("weight", gamma), ("bias", beta)):
        if isinstance(parameter := getattr(module, name, None), nn.Parameter):
            nn.init.constant_(parameter, value)
    y: torch.Tensor = module(x)
    return y


def effective(text: str, raw: torch.Tensor) -> torch.Tensor:
    """The weight (rows, fan-in) that a weight method makes of a raw one. Gains that are learned start at 1."""
    method = registry.parse(text)
    if not isinstance(method, WeightNorm):
        raise TypeError(f"{text} is no weight method")
    module = nn.Linear(raw.shape[1], raw.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(raw)
    tiny(method).wrap(module)  # type: ignore[attr-defined]
    gains = [p for p in module.parameters() if p.shape != raw.shape]
    for gain in gains:
        nn.init.ones_(gain)
    weight: torch.Tensor = module.weight
    return weight.detach()


def covariance(x: torch.Tensor) -> torch.Tensor:
    """Of the columns of (m, n): (n, n), biased."""
    centred = x - x.mean(0)
    return centred.mT @ centred / len(x)


def orthogonality(function: Function, weight: torch.Tensor, seed: int, rows: bool = True) -> float:
    """Largest |cos| between a weight and its gradient of a random projection of `function`: over its rows, or of the
    whole tensor.
    """
    raw = weight.clone().requires_grad_()
    made_ = function(raw)
    (gradient,) = torch.autograd.grad((made_ * normal(seed, *made_.shape, stream=99)).sum(), raw)
    w, g = (t.detach().flatten(1) if rows else t.detach().reshape(1, -1) for t in (raw, gradient))
    return float(((w * g).sum(1).abs() / (w.norm(dim=1) * g.norm(dim=1)).clamp_min(1e-300)).max())


def unmet(rows: torch.Tensor) -> float:
    """How far the covariance of whitened `rows`, (groups, d, m), stays from the identity at the least: of the centred
    rows, whose largest rank is known, the best whitening is that of their singular vectors.
    """
    centred = rows - rows.mean(2, keepdim=True)
    left, values, right = torch.linalg.svd(centred, full_matrices=False)
    kept = (values > 1e-9 * values[:, :1]).double()
    white = (left * kept.unsqueeze(1)) @ right * rows.shape[2] ** 0.5
    identity = torch.eye(rows.shape[1], dtype=rows.dtype)
    return float((white @ white.mT / rows.shape[2] - identity).abs().max())
