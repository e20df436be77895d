"""Units of small networks merged by similar (gamma, beta), or at random, and trained on."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch

from normbench.claims._small import Networks, Training, evaluate, fit, train
from normbench.measures.pruning import merges
from normbench.studies._stats import Array


def tuned(of: Training, share: float, choice: Literal["similar", "random", "none"], steps: int) -> Array:
    """(S,): accuracy after a share of the units of every layer was merged into others and all was trained on."""
    networks = copy.deepcopy(train(of).networks)
    masks = [_merge(networks, k, share, choice) for k in range(of.depth)] if choice != "none" else []

    @torch.no_grad()
    def stay_merged() -> None:
        for k, mask in enumerate(masks):
            follows: Any = networks.dense[k + 1]
            follows.rows.weight.mul_(mask)

    generator = fit(networks.train(), steps, stay_merged)
    found: Array = evaluate(networks, generator).double().numpy()
    return found


@torch.no_grad()
def _merge(networks: Networks, k: int, share: float, choice: str) -> torch.Tensor:
    """Let what follows layer k take the units that stay in place of those that go; the mask of its weight."""
    norm: Any = networks.norms[k]
    follows: Any = networks.dense[k + 1]
    gamma, beta = norm.gamma[:, 0], norm.beta[:, 0]
    count, units = gamma.shape
    weight = follows.rows.weight.view(count, follows.out, units)
    mask = torch.ones_like(weight)
    for s in range(count):
        if choice == "similar":
            pairs = [(m.channel, m.into) for m in merges(gamma[s], beta[s])][: round(share * units)]
        else:
            order = torch.randperm(units, generator=torch.Generator().manual_seed(100 * k + s)).tolist()
            gone, left = order[: round(share * units)], order[round(share * units) :]
            pairs = [(c, left[i % len(left)]) for i, c in enumerate(gone)]
        for channel, into in pairs:
            weight[s, :, into] += weight[s, :, channel]
            weight[s, :, channel] = 0
            mask[s, :, channel] = 0
    return mask.flatten(0, 1)
