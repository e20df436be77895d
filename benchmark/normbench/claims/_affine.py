"""Batch norm of small networks over training: gamma, beta, the statistics of what it takes, the effective weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from normbench.claims._probes import batch_of, losses
from normbench.claims._small import Training, train
from normbench.studies._stats import Array


@cache
def distances(of: Training) -> tuple[Array, Array]:
    """(S,) each, of the first norm after training: the median over units of |gamma^2 - sigma^2|, and of |beta - mu|."""
    networks = train(of).networks
    losses(networks, *batch_of(of))
    x, norm = networks.inputs[0].detach(), networks.norms[0]
    gamma, beta = (getattr(norm, name).detach()[:, 0] for name in ("gamma", "beta"))
    sigma2, mu = x.var(1, correction=0), x.mean(1)
    return (
        (gamma.square() - sigma2).abs().median(1).values.double().numpy(),
        (beta - mu).abs().median(1).values.double().numpy(),
    )


@cache
def effective(of: Training) -> torch.Tensor:
    """(S, units, inputs): the effective weight gamma w / sigma of the first norm after training (equation 12)."""
    networks = train(of).networks
    losses(networks, *batch_of(of))
    sigma = networks.inputs[0].detach().std(1, correction=0)
    dense: Any = networks.dense[0]
    norm: Any = networks.norms[0]
    weight = dense.rows.weight.detach().view(networks.networks, of.width, -1)
    gamma = norm.gamma.detach()[:, 0]
    made: torch.Tensor = weight * (gamma / sigma).unsqueeze(2)
    return made


def moved(of: Training, start: int, count: int) -> Array:
    """(S,): how far the effective weights move over so many steps, as a share of their length."""
    before, after = (effective(Training(**{**vars(of), "steps": steps})).flatten(1) for steps in (start, start + count))
    found: Array = ((after - before).norm(dim=1) / before.norm(dim=1)).double().numpy()
    return found
