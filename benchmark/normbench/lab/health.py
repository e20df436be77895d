"""Can the robustness numbers of a network be trusted? These checks raise a flag where gradients are masked, or where
the network is not a function of one image.

They take the first images that are classified correctly, and the L-infinity size where the evaluation is most telling.
There they compare the evaluation's own worst case of each image with attacks that masking does not stop. A flag is a
finding with its evidence, not an error: it is stored and shown. The list follows Carlini et al. 2019, "On evaluating
adversarial robustness", and Croce and Hein 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from normbench.attacks import registry
from normbench.attacks.base import Attack, Pool
from normbench.lab.evaluate import SIZE_TOLERANCE, Counted, evaluating
from normbench.lab.train import Tensors
from normbench.spec.outcome import AttackResult, HealthCheck
from normbench.spec.robustness import unpack

#: Images that are looked at.
SAMPLE = 64
#: Sizes that are tried where the evaluation has no L-infinity attack.
SIZES = tuple(k / 255 for k in (1, 2, 4, 8, 16, 32))
STEPS = 20
#: Queries of the Square attack an image: enough to show masking, far from the attack's full strength.
QUERIES = 100
#: A grey image is within this distance of every image, so no image should survive.
EVERYWHERE = 0.5
#: The evaluation counts as weak if a black box fools more than this share of the sample beyond it, or a weaker attack
#: beyond a stronger one. On 128 digits, eleven honest networks showed up to 2 % (images at the boundary), scaled logits
#: and quantised inputs 6 to 7 %.
SLACK = 0.04
#: The same for DLR, which also fools images that a few more steps of cross-entropy would fool. On 128 digits, eleven
#: honest networks showed up to 5 %, scaled logits 18 %.
DLR_SLACK = 0.08
#: Share of the sample that may survive at `EVERYWHERE`.
LEFT = 0.05
#: Share of the sample whose gradient may be exactly zero.
ZERO_GRADIENTS = 0.05
#: Largest difference of an image's logits between two batches, as a share of the largest logit. Other kernels may round
#: differently; other images must not matter.
BATCH_MATES = 1e-4


@dataclass(frozen=True)
class _Sample:
    """Correctly classified test images; `index` in the test set."""

    index: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


def examine(
    model: nn.Module,
    data: Tensors,
    correct: torch.Tensor,
    results: Sequence[AttackResult],
    *,
    seed: int,
    batch_size: int,
    searched: Sequence[Attack] = (),
) -> tuple[HealthCheck, ...]:
    """All checks. `correct`: bool (N,), which images of `data` are classified correctly; `results`: the evaluation that
    is to be trusted; `searched`: its attacks that climbed gradients of another model than the network in float32.
    """
    index = correct.nonzero().flatten()[:SAMPLE]
    if not len(index):
        return (HealthCheck(check="sample", passed=False, evidence="no test image is classified correctly"),)
    pool = Pool(images=data.images, labels=data.labels, seed=seed)
    sample = _Sample(index, *pool.at(index))
    with evaluating(model), torch.no_grad():
        found = list(_plain_function(model, sample))
        if found[0].passed:  # attacks on NaN mean nothing
            found += _gradients(model, sample)
            attacks = _Attacks(Counted(model).eval(), pool, sample, min(batch_size, len(index)))
            found += [*_attacks(attacks, results), *_searches(attacks, results, searched)]
    return tuple(found)


def _plain_function(model: nn.Module, sample: _Sample) -> Iterator[HealthCheck]:
    """Is the network one function of one image?"""
    logits, again = model(sample.images), model(sample.images)
    finite = bool(torch.isfinite(logits).all())
    largest = float(logits.abs().max())
    yield HealthCheck(
        check="finite logits",
        passed=finite,
        evidence=f"largest absolute logit {largest:.4g} on {len(sample.index)} images",
    )
    probabilities = bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())
    yield HealthCheck(
        check="logits, not probabilities",
        passed=not probabilities,
        evidence=f"rows sum to {float(logits.sum(1).min()):.4g} to {float(logits.sum(1).max()):.4g}, smallest entry "
        f"{float(logits.min()):.4g}",
    )
    training = [name or "the network" for name, module in model.named_modules() if module.training]
    yield HealthCheck(
        check="eval mode", passed=not training, evidence=f"in training mode: {', '.join(training[:3]) or 'no module'}"
    )
    moved = float((logits - again).abs().max())
    yield HealthCheck(
        check="deterministic", passed=moved == 0, evidence=f"two forward passes differ by {moved:.4g} at most; limit 0"
    )
    half = max(1, len(sample.images) // 2)
    other = torch.cat([model(part) for part in torch.split(sample.images, half)])
    apart = float((logits - other).abs().max())
    yield HealthCheck(
        check="independent of batch mates",
        passed=apart <= BATCH_MATES * max(largest, 1e-12),
        evidence=f"logits in half the batch differ by {apart:.4g} at most; limit {BATCH_MATES:g} of {largest:.4g}",
    )


def _gradients(model: nn.Module, sample: _Sample) -> Iterator[HealthCheck]:
    zero = 0
    for images, labels in zip(torch.split(sample.images, SAMPLE), torch.split(sample.labels, SAMPLE), strict=True):
        x = images.clone().requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(model(x), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x) if loss.requires_grad else (torch.zeros_like(x),)
        zero += int((gradient.flatten(1) == 0).all(1).sum())
    yield HealthCheck(
        check="gradients",
        passed=zero <= ZERO_GRADIENTS * len(sample.index),
        evidence=f"{zero} of {len(sample.index)} images have a gradient that is exactly zero; limit "
        f"{ZERO_GRADIENTS:.0%}",
    )


@dataclass(frozen=True)
class _Attacks:
    """Attacks on the sample, each on one ball."""

    model: Counted
    pool: Pool
    sample: _Sample
    batch_size: int

    def survivors(self, name: str, size: float, among: torch.Tensor, **params: object) -> torch.Tensor:
        """As `stand`, for an attack by its name."""
        return self.stand(registry.make(name, {"eps": [size], **params}), size, among)

    def stand(self, method: Attack, size: float, among: torch.Tensor) -> torch.Tensor:
        """Attack the images of `among`, bool (sample,), and return which of them are still classified correctly."""
        left, sample = among.clone(), self.sample
        places = among.nonzero().flatten()
        if not len(places):
            return left
        with self.model.asked():
            for chosen, perturbed in method.examples(
                self.model, self.pool, sample.index[places], size, self.batch_size
            ):
                where = torch.searchsorted(sample.index, chosen)
                left[where] = self.model.verdict(perturbed, sample.labels[where.to(sample.labels.device)])
        return left

    def everyone(self) -> torch.Tensor:
        return torch.ones(len(self.sample.index), dtype=torch.bool)


def _attacks(attacks: _Attacks, results: Sequence[AttackResult]) -> Iterator[HealthCheck]:
    """Does the evaluation hold against attacks that masking does not stop?"""
    everyone = attacks.everyone()
    count = len(everyone)
    try:
        size, claimed = _claim(results, attacks.sample.index) or _own_claim(attacks)
        weak = attacks.survivors("fgsm", size, everyone)
        strong = attacks.survivors("bim", size, everyone, steps=STEPS)
        larger = attacks.survivors("bim", min(EVERYWHERE, 2 * size), everyone, steps=STEPS)
        everywhere = attacks.survivors("bim", EVERYWHERE, everyone, steps=STEPS)
        blind = attacks.survivors("pgd", size, claimed, steps=STEPS, loss="dlr")
        black_box = attacks.survivors("square", size, claimed, queries=QUERIES)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        yield HealthCheck(check="attacks", passed=False, evidence=f"could not be run: {said}")
        return
    at, twice = f"{size * 255:.3g}/255", f"{min(EVERYWHERE, 2 * size) * 255:.3g}/255"
    text = f"at {at} the evaluation, then PGD-{STEPS} on the difference of logits ratio"
    yield _beyond("cross-entropy against DLR", blind, claimed, text, DLR_SLACK)
    text = f"at {at} the evaluation, then Square with {QUERIES} queries"
    yield _beyond("white box against black box", black_box, claimed, text)
    yield _beyond("iterative against single step", weak, strong, f"at {at} BIM-{STEPS} and FGSM")
    yield _beyond("monotone in eps", strong, larger, f"BIM-{STEPS} at {twice} and at {at}")
    yield HealthCheck(
        check="nothing stands everywhere",
        passed=int(everywhere.sum()) <= LEFT * count,
        evidence=f"{int(everywhere.sum())} of {count} stand BIM-{STEPS} at eps {EVERYWHERE:g}, which contains grey; "
        f"limit {LEFT:.0%}",
    )
    excess = max((r.largest - r.size * (1 + SIZE_TOLERANCE) for r in results if r.largest is not None), default=0.0)
    yield HealthCheck(
        check="within eps",
        passed=excess <= SIZE_TOLERANCE,
        evidence=f"perturbations exceed their size by {max(excess, 0.0):.2g} at most; limit {SIZE_TOLERANCE:g}",
    )


def _searches(attacks: _Attacks, results: Sequence[AttackResult], searched: Sequence[Attack]) -> Iterator[HealthCheck]:
    """Do survivors of an attack on faster gradients stand the same attack on the network's own, in float32?"""
    for method in searched:
        own = [r for r in results if r.attack == method.setting]
        if (claim := _telling(own, attacks.sample.index)) is None:
            continue
        size, claimed = claim
        left = attacks.stand(method, size, claimed)
        text = f"{method.setting} at {size:.4g}: the evaluation's fast gradients, then the network's own in float32"
        yield _beyond("fast gradients against exact ones", left, claimed, text)


def _beyond(check: str, more: torch.Tensor, less: torch.Tensor, text: str, share: float = SLACK) -> HealthCheck:
    """Passed where not many fewer of the sample survive what leaves `more` than what leaves `less`."""
    first, second, slack = int(less.sum()), int(more.sum()), share * len(more)
    return HealthCheck(
        check=check,
        passed=first - second <= slack,
        evidence=f"{text}: {first} and {second} of {len(more)} stand; the second may be lower by {slack:.3g}",
    )


def _claim(results: Sequence[AttackResult], index: torch.Tensor) -> tuple[float, torch.Tensor] | None:
    """`_telling` of all attacks in L-infinity together."""
    return _telling([r for r in results if r.threat == "linf"], index)


def _telling(results: Sequence[AttackResult], index: torch.Tensor) -> tuple[float, torch.Tensor] | None:
    """The size at which the share of survivors of all `results` is nearest to one half (the largest of several such
    sizes), and the survivors there: bool (sample,).
    """
    survivors: dict[float, torch.Tensor] = {}
    for result in results:
        correct = torch.from_numpy(unpack(result.outcomes, result.total))[index]
        survivors[result.size] = survivors.get(result.size, torch.ones_like(correct)) & correct
    return min(survivors.items(), key=lambda item: (abs(float(item[1].double().mean()) - 0.5), -item[0]), default=None)


def _own_claim(attacks: _Attacks) -> tuple[float, torch.Tensor]:
    """The same where the evaluation has no L-infinity attack: the first size at which at most half survive."""
    for size in SIZES:
        left = attacks.survivors("bim", size, attacks.everyone(), steps=STEPS)
        if float(left.double().mean()) <= 0.5:
            break
    return size, left
