"""Which weights end up scale-invariant, and what a swap would do to an architecture (`bench audit MODEL NORM`)."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from benchmark.lab.models import Request, construct
from benchmark.lab.swap import Audit, swap
from benchmark.norms import resolve

#: A weight whose cosine with its gradient is below this counts as scale-invariant: eps in the denominators leaves about 1e-5.
COSINE = 1e-4
#: Examples that the cosines are measured on.
EXAMPLES = 4


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
    """What the swap to `norm` (as a suite writes it: `ws+gn[groups=8]`) does to an architecture, and which weights end up scale-invariant.

    Raises `ModelError`, `SwapError`, `NormSiteError` or `PluginError`.
    """
    _, components = resolve(norm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = construct(Request(name=model_name, stem=stem, width=width, channels=channels, image_size=image_size, classes=classes))
        return audited(network, swap(network, components, torch.zeros(2, channels, image_size, image_size)), channels, image_size)


def audited(network: nn.Module, done: Audit, channels: int, image_size: int) -> Audit:
    """The audit with the scale-invariant weights of `network` filled in."""
    cosines = weight_cosines(network, channels, image_size)
    return done.model_copy(update={"scale_invariant": tuple(n for n, c in cosines.items() if c is not None and c < COSINE), "weights": len(cosines)})


def weight_cosines(network: nn.Module, channels: int, image_size: int) -> dict[str, float | None]:
    """|cos(w, gradient)| of every weight of a convolution or linear layer (the raw one where it is reparametrized), by parameter name.

    Measured in training mode, on random images and a random projection of the logits, on a copy whose zeros are undone (gammas, heads and scalars
    that start at zero would hide what is behind them). None where the gradient is zero or not finite: nothing can be said.
    """
    twin = copy.deepcopy(network).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _undo_zeros(twin)
        logits = twin(torch.randn(EXAMPLES, channels, image_size, image_size))
        (logits * torch.randn_like(logits)).sum().backward()
    found = {}
    for name, parameter in twin.named_parameters():
        owner = twin.get_submodule(name.split(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0])
        if not isinstance(owner, nn.modules.conv._ConvNd | nn.Linear) or parameter.ndim < 2 or min(parameter.shape[0], parameter[0].numel()) < 2:
            continue
        grad = parameter.grad
        product = None if grad is None else parameter.detach().double().norm() * grad.double().norm()
        known = grad is not None and product is not None and bool(product.isfinite()) and float(product) > 0
        found[name] = float((parameter.detach().double() * grad.double()).sum().abs() / product) if known and grad is not None else None
    return found


@torch.no_grad()
def _undo_zeros(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.any() and not name.endswith("bias"):
            if parameter.ndim < 2:
                parameter.fill_(1)
            else:
                parameter.normal_(std=0.02)
