"""Which weights end up scale-invariant, and what a swap would do to an architecture (`bench audit MODEL NORM`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.inside import watching
from normbench.lab.network.swap import Audit, LeftAlone, swap
from normbench.norms import resolve
from normbench.tensors.layers import WEIGHTED
from normbench.tensors.seeding import seeded

#: A weight counts as scale-invariant if its cosine with its gradient is below this. eps in the denominators leaves
#: about 1e-5.
COSINE = 1e-4
#: Examples that the cosines are measured on.
EXAMPLES = 4
#: Gradients that each weight is compared with.
PROJECTIONS = 3


def audit(
    model_name: str,
    norm: str,
    *,
    stem: Literal["cifar", "native"] = "cifar",
    width: float = 1.0,
    image_size: int = 32,
    channels: int = 3,
    classes: int = 10,
) -> Audit:
    """What the swap to `norm` (as a suite writes it: `ws+gn[groups=8]`) does to an architecture, and which weights end
    up scale-invariant.

    Raises `ModelError`, `SwapError`, `NormSiteError` or `PluginError`.
    """
    _, components = resolve(norm)
    with seeded():
        network = construct(
            Request(name=model_name, stem=stem, width=width, channels=channels, image_size=image_size, classes=classes)
        )
        return audited(
            network, swap(network, components, torch.zeros(2, channels, image_size, image_size)), channels, image_size
        )


def audited(network: nn.Module, done: Audit, channels: int, image_size: int) -> Audit:
    """The audit with the scale-invariant weights of `network` filled in, and with what normalizes inside forwards."""
    inside: list[LeftAlone] = []
    known = {r.name for r in done.replaced} | {w.name for w in done.wrapped} | {k.name for k in done.kept}
    cosines = weight_cosines(network, channels, image_size, known=known, inside=inside)
    return done.model_copy(
        update={
            "kept": (*done.kept, *inside),
            "scale_invariant": tuple(n for n, c in cosines.items() if c is not None and c < COSINE),
            "weights": len(cosines),
        }
    )


def weight_cosines(
    network: nn.Module,
    channels: int,
    image_size: int,
    *,
    known: Collection[str] = (),
    inside: list[LeftAlone] | None = None,
) -> dict[str, float | None]:
    """|cos(w, gradient)| of every weight of a convolution or linear layer (the raw one where it is reparametrized), by
    parameter name.

    It is the largest over several random projections of the logits: in a large tensor any two directions may be nearly
    orthogonal once. It is measured in training mode, on random images, on a copy of the network whose zeros are
    replaced: gammas, heads and scalars that start at zero would hide what is behind them. None where the gradient is
    zero or not finite. inside: filled with what normalizes inside forwards, but for modules that are `known` (see
    `normbench.lab.network.inside`). Raises `ModelError` where the network gives no logits.
    """
    twin = copy.deepcopy(network).train()
    cosines: dict[str, list[float | None]] = {}
    with seeded():
        _undo_zeros(twin)
        weights = _weights(twin)
        images = torch.randn(EXAMPLES, channels, image_size, image_size)
        with watching(twin, known) as seen:
            logits = twin(images)
        if inside is not None:
            inside.extend(seen)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ModelError(
                f"{type(network).__name__} gives {found} for {EXAMPLES} images, not logits of shape ({EXAMPLES}, "
                "classes)"
            )
        for _ in range(PROJECTIONS):
            projected = (logits * torch.randn_like(logits)).sum()
            gradients = torch.autograd.grad(projected, list(weights.values()), retain_graph=True, allow_unused=True)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                cosines.setdefault(name, []).append(_cosine(weight, gradient))
    return {name: None if None in each else max(c for c in each if c is not None) for name, each in cosines.items()}


def _cosine(weight: torch.Tensor, gradient: torch.Tensor | None) -> float | None:
    if gradient is None:
        return None
    w, g = weight.detach().double(), gradient.double()
    product = float(w.norm() * g.norm())
    return float((w * g).sum().abs()) / product if 0 < product < math.inf else None


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of convolutions and linear layers; the raw ones where they are reparametrized."""
    found = {}
    for name, parameter in model.named_parameters():
        wrapped, _, _ = name.partition(".parametrizations.")
        owner = model.get_submodule(wrapped if wrapped != name else name.rpartition(".")[0])
        matrix = parameter.ndim > 1 and parameter.shape[0] > 1 and parameter[0].numel() > 1
        if isinstance(owner, WEIGHTED) and matrix:
            found[name] = parameter
    return found


@torch.no_grad()
def _undo_zeros(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.any() and not name.endswith("bias"):
            if parameter.ndim < 2:
                parameter.fill_(1)
            else:
                parameter.normal_(std=0.02)
