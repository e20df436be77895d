"""By what a step changes the norm of a weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from normbench.measures._steps import WORST, WorstOfSteps, flat
from normbench.measures.base import Step, Value

#: A step that differs from `-lr (g + weight_decay w)` by more than this share was clipped, or is lost in the rounding
#: of the weights.
PLAIN = 1e-2
#: Quantities whose sign says something; of the others the size and the worst are recorded.
SIGNED = frozenset({"growth.rate", "growth.radial"})


class Growth(WorstOfSteps):
    """The two forms of the growth of a raw weight w over one optimizer step, w' = w + D.

    Under any optimizer `|w'|^2 = |w|^2 + |D|^2 + 2 <w, D>`. Recorded for every layer: `growth.rate = (|w'|^2 - |w|^2) /
    |w|^2` and `growth.radial = 2 <w, D> / |D|^2`, the part of the growth that comes from steps that are not orthogonal
    to the weight, in units of the part that a step adds by its length: 0 for orthogonal steps, negative where weight
    decay (or momentum along old steps) pulls inwards, -1 in equilibrium.

    Under plain SGD (no momentum) and for scale-invariant weights `<w, g> = 0`, so that with the gradient g of the loss,
    the learning rate lr and the weight decay wd `|w'|^2 = (1 - lr wd)^2 |w|^2 + lr^2 |g|^2`. `growth.residual` is the
    difference of both sides as a share of `lr^2 |g|^2`, unsigned; of layers that are not scale-invariant it is
    `growth.residual-other`, and not expected to be small. Under other optimizers, momentum included, the identity is
    false and has no residual, nor has a step that gradient clipping has cut.

    Values are means over the followed steps, `-worst` the largest. The whole network (layer "") is all scale-invariant
    weights taken together as one vector (`residual-other`: all others), for which the identity holds as well. No units;
    in float64.

    Two things are left in the residual of a scale-invariant weight, both divided by `lr^2 |g|^2`. eps in a denominator
    makes `<w, g>` of the order of `|w| |g| eps / variance` instead of 0. And w' is rounded to float32, which moves
    `|w'|^2` by about `1e-7 |w|^2 / sqrt(n)` for n values:
    `growth.rounding` is that share, from w' and the same step taken in float64. A layer whose steps are shorter than
    about a hundredth of the weight drowns in the two (residual branches that start at gamma 0 in their first steps, and
    every layer under a small learning rate); taken together, those that move decide.

    Source: Sun et al., AAAI 2020, Lemma 3 (there without weight decay, and stated for rows); Salimans and Kingma,
    NeurIPS 2016.
    """

    name: ClassVar[str] = "growth"
    summary: ClassVar[str] = "Growth of the weight norms by a step, and the residual of the growth identity"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Lemma 3"
    cost: ClassVar[str] = "a few dot products of each weight, a followed step"

    def follow(self, step: Step) -> Iterable[Value]:
        plain = step.optimizer == "sgd" and step.momentum == 0
        whole: dict[str, tuple[float, float]] = {}
        for layer, weight in step.before.items():
            before, after, gradient = flat(weight), flat(step.after[layer]), flat(step.gradient[layer])
            kept, moved = 1 - step.lr * step.weight_decay[layer], after - before
            old, new, length, inner = (
                (a @ b).item() for a, b in ((before, before), (after, after), (moved, moved), (before, moved))
            )
            if old == 0 or length == 0:
                continue
            invariant = layer in step.invariant
            shares = {"growth.rate": (new - old, old), "growth.radial": (2 * inner, length)}
            exact = kept * before - step.lr * gradient
            added = step.lr**2 * (gradient @ gradient).item()
            if plain and added > 0 and ((after - exact).norm() < PLAIN * moved.norm()).item():
                shares["growth.residual" if invariant else "growth.residual-other"] = (
                    new - kept**2 * old - added,
                    added,
                )
                shares["growth.rounding"] = (new - (exact @ exact).item(), added)
            yield from _shares(layer, shares)
            for quantity, (part, of) in shares.items():
                if invariant or quantity == "growth.residual-other":
                    sums = whole.get(quantity, (0.0, 0.0))
                    whole[quantity] = sums[0] + part, sums[1] + of
        yield from _shares("", whole)


def _shares(layer: str, shares: Mapping[str, tuple[float, float]]) -> Iterator[Value]:
    """Parts and what they are a share of, by quantity."""
    for quantity, (part, of) in shares.items():
        if quantity in SIGNED:
            yield Value(quantity, layer, part / of)
        else:
            yield Value(quantity, layer, abs(part / of))
            yield Value(f"{quantity}{WORST}", layer, abs(part / of))
