"""When two runs count as the same."""

from __future__ import annotations

import pytest
from normbench.store.marks import Compared
from normbench.trust.compare import CHAOS, COARSE_FLOOR, FLOOR, MARGIN, accuracies, step_losses


def test_the_floor_where_rounding_decides_nothing() -> None:
    found = [2.0, 1.5, 1.0]
    (first, *_) = compared = step_losses([v * (1 + FLOOR * 0.9) for v in found], found, found, coarse=False)
    assert len(compared) == 3
    assert all(c.holds for c in compared)
    assert first.tolerance == pytest.approx(2.0 * FLOOR)
    off = step_losses([2.0, 1.5, 1.0 * (1 + 1.5 * FLOOR)], found, found, coarse=False)
    assert [c.holds for c in off] == [True, True, False]
    assert all(c.holds for c in step_losses([2.0, 1.5, 1.0 * (1 + 1.5 * FLOOR)], found, found, coarse=True))
    assert not all(c.holds for c in step_losses([2.0, 1.5, 1.0 * (1 + 1.5 * COARSE_FLOOR)], found, found, coarse=True))


def test_tolerance_widens_with_what_rounding_does_and_never_narrows() -> None:
    compared = step_losses([1.0] * 3, [1.0] * 3, [1.0, 1.001, 1.0], coarse=False)
    assert [c.tolerance for c in compared] == pytest.approx([FLOOR, MARGIN * 0.001, MARGIN * 0.001], rel=1e-2)


def test_nothing_is_compared_from_where_rounding_alone_decides() -> None:
    wild = 1 + 2 * CHAOS / MARGIN
    assert len(step_losses([1.0, 9.0, 9.0], [1.0] * 3, [1.0, wild, 1.0], coarse=False)) == 1
    assert step_losses([9.0], [1.0], [wild], coarse=False) == ()


def test_losses_that_are_not_finite() -> None:
    assert [c.holds for c in step_losses([1.0, None], [1.0, None], [1.0, None], coarse=False)] == [True, True]
    assert [c.holds for c in step_losses([1.0, None], [1.0, 1.0], [1.0, 1.0], coarse=False)] == [True, False]
    assert (
        len(step_losses([1.0, None], [1.0, 5.0], [1.0, None], coarse=False)) == 1
    )  # one of the two re-runs overflows: on the edge
    refused = step_losses([1.0, 0.5], [1.0, None], [1.0, None], coarse=False)
    assert [c.holds for c in refused] == [True, False]


def _row(clean: float | None, **attacks: float) -> dict[str, object]:
    return {
        "clean_accuracy": clean,
        "validation_accuracy": None,
        "test_total": 400,
        "attacks": [{"attack": k, "size": 0.1, "accuracy": v, "total": 400} for k, v in attacks.items()],
    }


def test_accuracies_within_slack_and_sampling_error() -> None:
    clean, bim = accuracies(_row(0.9, bim=0.5), _row(0.88, bim=0.56))
    assert (clean.holds, bim.holds) == (True, True)
    assert clean.tolerance == pytest.approx(0.01 + 3 * (0.9 * 0.1 / 400) ** 0.5)
    assert not accuracies(_row(0.99), _row(0.88))[0].holds
    assert not accuracies(_row(0.9, bim=0.7), _row(0.9, bim=0.5))[1].holds


def test_a_number_that_only_one_side_has_does_not_hold() -> None:
    assert [c.holds for c in accuracies(_row(0.9, bim=0.5), _row(0.9))] == [True, False]
    assert [c.holds for c in accuracies(_row(0.9), _row(0.9, bim=0.5))] == [True, False]
    assert accuracies(_row(None), _row(None)) == ()
    assert Compared(what="x", expected=None, found=None, tolerance=0).holds
