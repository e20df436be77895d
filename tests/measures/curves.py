"""Networks in float64 that are small enough for dense Hessians, and quadratics in the place of losses."""

from __future__ import annotations

import torch
from normbench.measures import Probe
from normbench.measures._loss import ProbeLoss
from normbench.norms import Site, resolve, split
from torch import nn

IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
LABELS = torch.arange(12) % 3


def network(norm: str = "bn", *, eps: float = 1e-5, seed: int = 0) -> nn.Sequential:
    """Two convolutions with `norm` behind each, smooth, about a hundred parameters, off the values that gammas and
    betas start at.
    """
    torch.manual_seed(seed)
    methods = split(resolve(norm)[1])
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 4), (4, 4)):
        conv = nn.Conv2d(inputs, outputs, 2, bias=False)
        if methods.weight:
            methods.weight.wrap(conv)
        layer = methods.activation.layer(Site(name="norm", channels=outputs, eps=eps))
        layers += [conv, methods.modifier.modify(layer) if methods.modifier else layer, nn.Softplus()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def probe(model: nn.Module, *, batch_size: int = 8, seed: int = 0, invariant: frozenset[str] = frozenset()) -> Probe:
    return Probe(
        model=model.eval(),
        images=IMAGES,
        labels=LABELS,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        batch_size=batch_size,
        seed=seed,
        invariant=invariant,
    )


class Quadratic(ProbeLoss):
    """w' A w / 2 at w, a matrix that need not be definite."""

    def __init__(self, matrix: torch.Tensor, at: torch.Tensor) -> None:
        model = nn.Linear(len(at), 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(at.view(1, -1))
        super().__init__(model, at, at, "train", 0)
        self.matrix = matrix

    def loss(self) -> torch.Tensor:
        w = self.parameters[0].view(-1)
        return w @ self.matrix @ w / 2


def symmetric(size: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn + drawn.T
