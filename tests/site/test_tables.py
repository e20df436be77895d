"""Axes of the tables hold whatever numbers there are, those at their limits too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.board import Metric
from normbench.pages import build
from normbench.pages.strips import MARGIN, WIDTH, scale_of
from normbench.store.store import Store

from tests.site import synthetic

ACCURACY = Metric("clean", "clean", "clean accuracy")
NORM = Metric("weight-norm", "weight-norm", "weight norm")


@given(st.lists(st.one_of(st.floats(0, 1, allow_subnormal=False), st.sampled_from([0.0, 1.0])), min_size=1))
def test_an_axis_of_accuracies_has_a_length_and_holds_them(values: list[float]) -> None:
    scale = scale_of(values, ACCURACY)
    assert 0 <= scale.low < scale.high <= 1
    assert all(MARGIN - 0.01 <= scale.x(v) <= WIDTH - MARGIN + 0.01 for v in values)


@given(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1))
def test_an_axis_of_weight_norms_has_a_length_and_holds_them(values: list[float]) -> None:
    scale = scale_of(values, NORM)
    assert scale.low < scale.high
    assert all(MARGIN - 0.01 <= scale.x(v) <= WIDTH - MARGIN + 0.01 for v in values)


@pytest.mark.parametrize("right", [True, False], ids=["all right", "all wrong"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_site_of_results_that_are_all_the_same_is_built(tmp_path: Path, right: bool, seeds: int) -> None:
    """Short trials of an easy dataset are: every accuracy, every interval lies at a limit."""
    store = Store(tmp_path / "results")
    for trial in synthetic.grid(["bn", "gn"], seeds=seeds, weight_decays=[0]):
        outcome = synthetic.outcome(trial)
        total, bits = outcome.test_total, np.packbits(np.full(outcome.test_total or 0, right)).tobytes()
        attacks = tuple(a.model_copy(update={"correct": total * right, "outcomes": bits}) for a in outcome.attacks)
        same = outcome.model_copy(update={"clean_correct": total * right, "clean_outcomes": bits, "attacks": attacks})
        store.write("demo", trial, synthetic.identity(trial), same)
    page = build(store, tmp_path / "site")
    assert ("100.0" if right else "0.0") in (page.parent / "accuracy.html").read_text()
