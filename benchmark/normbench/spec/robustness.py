"""What per-image outcomes say together: where each image fell, areas under accuracy-size curves, worst cases. No torch,
no I/O.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from normbench.spec.outcome import BALLS, AttackResult, RobustnessCurve

WORST_CASE = "worst case"
#: Images as they are, where a result names them and what they were evaluated by.
CLEAN = "clean"
_UNDER = " under "

Bits = npt.NDArray[np.bool_]


class Survivors(NamedTuple):
    """The images that withstand every attack given, up to one size."""

    size: float
    bits: npt.NDArray[Any]
    """Of the type of the outcomes given: bool, or packed to bytes."""
    attacks: int
    """How many attacks were run at this size or a smaller one."""


def survivors(outcomes: Iterable[tuple[str, float, npt.NDArray[Any]]]) -> list[Survivors]:
    """Who is left at each size, ascending, under attacks of one threat: this is the one definition of the worst case.

    outcomes: attack, size, and which images are classified correctly. An image survives a size when no attack fooled it
    at this size or at a smaller one, so the share of survivors never rises with the size, wherever the attacks' sizes
    differ.
    """
    found: list[Survivors] = []
    attacks: set[str] = set()
    for attack, size, bits in sorted(outcomes, key=lambda outcome: outcome[1]):
        attacks.add(attack)
        left = bits & found[-1].bits if found else bits
        if found and found[-1].size == size:
            found.pop()
        found.append(Survivors(size, left, len(attacks)))
    return found


def under(images: str, statistics: str) -> str:
    """The name of a result by other statistics than the running ones: `noise under batch[size=64]`."""
    return f"{images}{_UNDER}{statistics}"


def apart(name: str) -> tuple[str, str]:
    """The attack that a result's name is about, and the statistics; empty where they are those of training."""
    images, _, statistics = name.partition(_UNDER)
    return images, statistics


def unpack(outcomes: bytes, total: int) -> Bits:
    """Packed bits (`numpy.packbits`) as bool (total,): which images are classified correctly."""
    return np.unpackbits(np.frombuffer(outcomes, np.uint8), count=total).astype(bool)


def fell_at(clean: Bits, survivors: Sequence[Bits]) -> npt.NDArray[np.uint8]:
    """The number of the size at which each image fell: 0 where the image is classified wrongly as it is, k where it
    fell at the k-th size, len(survivors) + 1 where it fell at none.

    clean: which images are classified correctly as they are. survivors: which are at each size, in ascending order. An
    image that fell stays fallen.
    """
    correct = np.logical_and.accumulate(np.stack([clean, *survivors]))
    found: npt.NDArray[np.uint8] = correct.sum(0).astype(np.uint8)
    return found


def accuracies(fallen: npt.NDArray[np.uint8], sizes: int) -> list[float]:
    """Accuracy at no perturbation and at each of `sizes` sizes, from `fell_at`."""
    return [float((fallen > k).mean()) for k in range(sizes + 1)]


def area(sizes: Sequence[float], accuracy: Sequence[float]) -> float:
    """Mean accuracy over sizes from 0 to the largest, by trapezoids. `accuracy` has one value more than `sizes`: the
    first is that without perturbation.
    """
    return float(np.trapezoid(accuracy, (0.0, *sizes)) / sizes[-1])


def median_size(sizes: Sequence[float], accuracy: Sequence[float]) -> float | None:
    """The size at which the accuracy passes 1/2, interpolated between sizes; 0 where it starts below, None where it
    stays above.
    """
    points = list(zip((0.0, *sizes), accuracy, strict=True))
    if accuracy[0] <= 0.5:
        return 0.0
    for (size, above), (larger, below) in pairwise(points):
        if below <= 0.5:
            return size + (larger - size) * (above - 0.5) / (above - below)
    return None


def curves(clean: bytes, results: Sequence[AttackResult]) -> tuple[RobustnessCurve, ...]:
    """One curve for each attack within a ball, and one for the worst case of each threat that has several attacks.

    clean: packed outcomes without perturbation. The curve of a single attack is its worst case: there is no second one.
    """
    by_attack: dict[tuple[str, str], list[AttackResult]] = defaultdict(list)
    for result in results:
        if result.threat in BALLS:
            by_attack[result.threat, result.attack].append(result)
    made = [_curve(attack, threat, clean, own) for (threat, attack), own in by_attack.items()]
    for threat, attacks in Counter(threat for threat, _ in by_attack).items():
        if attacks > 1:
            made.append(
                _curve(WORST_CASE, threat, clean, [r for (t, _), own in by_attack.items() if t == threat for r in own])
            )
    return tuple(made)


def _curve(attack: str, threat: str, clean: bytes, results: Sequence[AttackResult]) -> RobustnessCurve:
    total = results[0].total
    left = survivors((r.attack, r.size, unpack(r.outcomes, total)) for r in results)
    sizes = [s.size for s in left]
    fallen = fell_at(unpack(clean, total), [s.bits for s in left])
    accuracy = accuracies(fallen, len(sizes))
    return RobustnessCurve(
        attack=attack,
        threat=threat,
        sizes=tuple(sizes),
        fell_at=fallen.tobytes(),
        area=area(sizes, accuracy),
        median_size=median_size(sizes, accuracy),
    )


def acc_diffs(clean: float, noise: float, attack: float) -> tuple[float, float]:
    """Acc-Diff1 and Acc-Diff2 of Sun et al. 2020 (Tables 1 and 2): clean accuracy less that under noise, and less that
    under BIM.
    """
    return clean - noise, clean - attack
