"""From per-image outcomes to curves: closed forms and orderings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.attacks import base
from normbench.spec.outcome import BALLS, AttackResult
from normbench.spec.robustness import (
    WORST_CASE,
    acc_diffs,
    accuracies,
    area,
    curves,
    fell_at,
    median_size,
    survivors,
    unpack,
)

OUTCOMES = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=6)
)


def _result(attack: str, size: float, right: list[bool], threat: str = "linf") -> AttackResult:
    return AttackResult(
        attack=attack,
        threat=threat,
        size=size,
        correct=sum(right),
        total=len(right),
        outcomes=np.packbits(right).tobytes(),
        seconds=0.0,
        model_calls=0,
    )


@given(OUTCOMES)
def test_an_image_that_fell_stays_fallen(rows: list[list[bool]]) -> None:
    clean, *standing = (np.array(r) for r in rows)
    fallen = fell_at(clean, standing)
    for image, k in enumerate(fallen):
        before = [r[image] for r in rows[:k]]
        assert all(before)
        assert k == len(rows) or not rows[k][image]
    found = accuracies(fallen, len(standing))
    assert found == sorted(found, reverse=True)
    assert found[0] == clean.mean()


def test_area_and_median_of_straight_lines() -> None:
    sizes = [0.1, 0.2, 0.4]
    straight = [1 - s / 0.4 for s in (0, *sizes)]
    assert area(sizes, straight) == pytest.approx(0.5)
    assert median_size(sizes, straight) == pytest.approx(0.2)
    assert area(sizes, [0.7] * 4) == pytest.approx(0.7)
    assert median_size(sizes, [0.7] * 4) is None
    assert median_size(sizes, [0.4, 0.3, 0.2, 0.1]) == 0.0
    assert median_size(sizes, [0.9, 0.6, 0.2, 0.0]) == pytest.approx(0.125)
    assert median_size(sizes, [0.8, 0.4, 0.2, 0.0]) == pytest.approx(0.075)
    assert median_size(sizes, [0.9, 0.8, 0.7, 0.5]) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="zip"):
        median_size(sizes, straight[1:])


def test_the_worst_case_is_over_attacks_and_smaller_sizes() -> None:
    clean = np.packbits([True, True, True, False]).tobytes()
    results = [
        _result("bim", 0.1, [True, True, True, False]),
        _result("bim", 0.3, [False, True, True, False]),
        _result("square", 0.2, [True, False, True, False]),
        _result("noise", 0.2, [False, False, False, False], "noise"),
        _result("pgd-l2", 0.5, [False, True, True, False], "l2"),
    ]
    by_name = {(c.threat, c.attack): c for c in curves(clean, results)}
    assert set(by_name) == {("linf", "bim"), ("linf", "square"), ("l2", "pgd-l2"), ("linf", WORST_CASE)}
    worst = by_name["linf", WORST_CASE]
    assert worst.sizes == (0.1, 0.2, 0.3)
    assert list(worst.fell_at) == [3, 2, 4, 0]
    assert worst.area == pytest.approx(np.trapezoid([0.75, 0.75, 0.5, 0.25], [0, 0.1, 0.2, 0.3]) / 0.3)
    assert list(by_name["linf", "bim"].fell_at) == [2, 3, 3, 0]
    assert worst.median_size == pytest.approx(0.2)
    assert by_name["linf", "bim"].median_size == pytest.approx(0.3)


@given(OUTCOMES)
def test_the_worst_case_is_never_above_an_attack(rows: list[list[bool]]) -> None:
    clean = np.packbits(rows[0]).tobytes()
    results = [_result(f"a{i % 2}", 0.1 * (1 + i // 2), r) for i, r in enumerate(rows[1:])]
    found = {c.attack: c for c in curves(clean, results)}
    worst = found.get(WORST_CASE)
    for name, curve in found.items():
        if worst is not None and name != WORST_CASE and curve.sizes == worst.sizes:
            assert worst.area <= curve.area + 1e-12
            assert all(w <= c for w, c in zip(worst.fell_at, curve.fell_at, strict=True))


ATTACKED = st.integers(1, 20).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.sampled_from(["bim", "pgd", "square"]),
            st.sampled_from([1 / 255, 2 / 255, 4 / 255, 8 / 255]),
            st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
        ),
        min_size=1,
        max_size=8,
    )
)


@given(ATTACKED)
def test_survivors_are_those_whom_nothing_at_this_or_a_smaller_size_fooled(outcomes) -> None:
    found = survivors(outcomes)
    assert [s.size for s in found] == sorted({size for _, size, _ in outcomes})
    for s in found:
        upto = [(attack, bits) for attack, size, bits in outcomes if size <= s.size]
        assert s.bits.tolist() == [all(bits[i] for _, bits in upto) for i in range(len(s.bits))]
        assert s.attacks == len({attack for attack, _ in upto})
    for smaller, larger in pairwise(found):
        assert not (larger.bits & ~smaller.bits).any()


@given(ATTACKED)
def test_survivors_of_packed_outcomes_are_the_same(outcomes) -> None:
    packed = survivors((attack, size, np.packbits(bits)) for attack, size, bits in outcomes)
    assert [s.bits.tobytes() for s in packed] == [np.packbits(s.bits).tobytes() for s in survivors(outcomes)]


def test_a_single_attack_has_a_curve_and_no_worst_case_besides() -> None:
    clean = np.packbits([True, True]).tobytes()
    one = [_result("bim", 0.1, [True, True]), _result("bim", 0.2, [False, True])]
    other_threat = _result("pgd-l2", 0.1, [False, False], "l2")
    assert [(c.attack, c.threat) for c in curves(clean, [*one, other_threat])] == [("bim", "linf"), ("pgd-l2", "l2")]


def test_what_is_evaluated_and_what_is_shown_mean_the_same_balls() -> None:
    assert base.BALLS == BALLS == {"linf", "l2", "l1"}


def test_unpack_keeps_test_set_order() -> None:
    assert unpack(b"\x80\x40", 10).tolist() == [True] + [False] * 8 + [True]


def test_acc_diffs_are_the_papers() -> None:
    """Sun et al. 2020: BN in Table 1 has .9687 clean and .8125 under noise; WN with weight decay in Table 2 has .6072
    clean and .1965 under BIM.
    """
    assert acc_diffs(0.9687, 0.8125, 0.0)[0] == pytest.approx(0.1562)
    assert acc_diffs(0.6072, 0.0, 0.1965)[1] == pytest.approx(0.4107)
