"""What per-image outcomes say together: where each image fell, areas under accuracy-size curves, worst cases. No torch,
no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from normbench.attacks.base import BALLS
from normbench.spec.outcome import AttackResult, RobustnessCurve

WORST_CASE = "worst case"

Bits = npt.NDArray[np.bool_]


def unpack(outcomes: bytes, total: int) -> Bits:
    """Packed bits (`numpy.packbits`) as bool (total,): which images are classified correctly."""
    return np.unpackbits(np.frombuffer(outcomes, np.uint8), count=total).astype(bool)


def fell_at(clean: Bits, standing: Sequence[Bits]) -> npt.NDArray[np.uint8]:
    """The number of the size at which each image fell: 0 = wrong as it is, k = at the k-th size, len(standing) + 1 =
    stood at all of them.

    clean: which images are right as they are; standing: those that are right at each size, ascending. An image that
    fell stays fallen.
    """
    right = np.logical_and.accumulate(np.stack([clean, *standing]))
    found: npt.NDArray[np.uint8] = right.sum(0).astype(np.uint8)
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

    clean: packed outcomes without perturbation. In the worst case an image stands at a size when no attack of that
    threat fooled it at this or a smaller one.
    """
    by_attack: dict[tuple[str, str], list[AttackResult]] = defaultdict(list)
    for result in results:
        if result.threat in BALLS:
            by_attack[result.threat, result.attack].append(result)
    made = [_curve(attack, threat, clean, group) for (threat, attack), group in by_attack.items()]
    for threat in dict.fromkeys(threat for threat, _ in by_attack):
        several = [group for (t, _), group in by_attack.items() if t == threat]
        if len(several) > 1:
            made.append(_curve(WORST_CASE, threat, clean, [r for group in several for r in group]))
    return tuple(made)


def _curve(attack: str, threat: str, clean: bytes, results: Sequence[AttackResult]) -> RobustnessCurve:
    total = results[0].total
    sizes = sorted({r.size for r in results})
    standing = [np.logical_and.reduce([unpack(r.outcomes, total) for r in results if r.size == size]) for size in sizes]
    fallen = fell_at(unpack(clean, total), standing)
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
