"""The angle between a weight and its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from normbench.measures._steps import WORST, WorstOfSteps, over_layers
from normbench.measures.base import Step, Value

if TYPE_CHECKING:
    import torch


class Orthogonality(WorstOfSteps):
    """`|cos(w, g)| = |<w, g>| / (|w| |g|)` of each raw weight and the gradient of the training loss on the step's own
    batch, in training mode.

    Where the loss does not change when w is multiplied by a positive number, `<w, g> = 0` (Euler's theorem for
    functions of degree 0). By the block that may be multiplied: `tensor`, the whole weight (every scale-invariant
    layer), and `row`, what makes one output channel (batch and instance norm and weight methods; layer and group norm
    are invariant by tensor or group of rows alone, so that a row's cosine is not small there, against what Sun et al.
    state for all methods in Lemma 3).

    Per layer: `orthogonality.tensor`, the mean over the followed steps; `orthogonality.row`, the mean over rows and
    steps; `-worst`, the largest of them. Of the whole network (layer ""), over the scale-invariant layers alone: the
    mean of the means, the largest of the largest. No unit, from 0 to 1; two random vectors of n values have about
    `sqrt(2 / (pi n))`. Rows and layers whose gradient or weight is zero have no direction and no value. The products
    are taken in float64, of weights and gradients in float32: what is exactly orthogonal stays at about 1e-8, and eps
    in a denominator leaves `eps / variance` of the layer's input. Weight decay and gradient clipping have no part in
    it.

    Source: Sun et al., AAAI 2020, Lemmas 2 and 3.
    """

    name: ClassVar[str] = "orthogonality"
    summary: ClassVar[str] = "Cosine between each weight and its gradient, by tensor and by row"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Lemma 2"
    cost: ClassVar[str] = "two dot products of each weight, a followed step"

    def follow(self, step: Step) -> Iterable[Value]:
        for kind, blocks in (("tensor", 0), ("row", 1)):
            quantity = f"orthogonality.{kind}"
            means, worst = {}, {}
            for layer, weight in step.before.items():
                cosines = _cosines(weight.flatten(blocks), step.gradient[layer].flatten(blocks))
                if not cosines.numel():
                    continue
                means[layer], worst[layer] = cosines.mean().item(), cosines.max().item()
                yield Value(quantity, layer, means[layer])
                yield Value(f"{quantity}{WORST}", layer, worst[layer])
            yield from over_layers(quantity, _only(means, step.invariant), _only(worst, step.invariant))


def _only(values: dict[str, float], layers: frozenset[str]) -> dict[str, float]:
    return {k: v for k, v in values.items() if k in layers}


def _cosines(w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Absolute cosines along the last axis, float64, of those that both have a direction."""
    w, g = w.detach().double(), g.detach().double()
    product = w.norm(dim=-1) * g.norm(dim=-1)
    directed = product != 0
    cosines: torch.Tensor = ((w * g).sum(-1).abs()[directed] / product[directed]).flatten()
    return cosines
