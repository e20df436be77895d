"""What was measured inside a network, on the page of its trial."""

from __future__ import annotations

import json
from pathlib import Path

import normbench
import pytest
from normbench.pages.measured import interval, measured
from normbench.store.store import Store
from scipy import stats

RESULTS = Path(normbench.__file__).parents[2] / "results"


def test_a_trace_from_four_vectors_has_students_interval() -> None:
    (row,) = (r for r in Store(RESULTS).rows(["digits-measures"], ["norm", "spec", "curves"]) if r["norm"] == "bw-zca")
    found = {m.quantity: m for m in measured(row)}
    first = [r["value"] for r in row["curves"] if r["step"] == 0 and r["measure"].startswith("hessian.trace")]
    low, high = stats.t.interval(0.95, 3, *first)
    assert found["hessian.trace"].first == f"{first[0]:.4g} [{low:.4g}, {high:.4g}]"
    assert low < 0 < high
    assert "[" not in found["hessian.eigenvalue.1"].last
    assert not {"hessian.trace.error", "train.loss", "lr"} & set(found)
    assert not [q for q in found if "@" in q]


def test_a_quantity_that_was_read_once_has_no_first_reading() -> None:
    spec = json.dumps({"measures": [{"name": "pruning", "params": {}}]})
    reading = {"step": 5, "epoch": 1.0, "measure": "pruning.unpruned", "layer": "", "value": 0.5}
    (found,) = measured({"spec": spec, "curves": [reading, reading | {"layer": "conv1", "value": 1.0}]})
    assert (found.first, found.last) == (None, "0.5")


@pytest.mark.parametrize(("error", "params"), [(None, {"vectors": 4}), (1.0, {"vectors": 1}), (1.0, {})])
def test_without_an_error_or_vectors_there_is_no_interval(error: float | None, params: dict[str, int]) -> None:
    assert interval(1.0, error, params) is None
