"""Axes: the data lie between the first and the last label, whatever they are, and no label meets the next."""

from __future__ import annotations

import itertools
import re

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from normbench.pages.axes import MOST, SHORTEST, Axis, boxes, fit, ticks_around, written
from normbench.pages.charts import Mark, scatter

NUMBERS = st.floats(-1e9, 1e9, allow_subnormal=False)
POSITIVE = st.floats(1e-9, 1e12, allow_subnormal=False)


def holds(axis: Axis, values: list[float]) -> None:
    slack = 1e-9 * max(map(abs, values))
    assert axis.ticks[0] - slack <= min(values) <= max(values) <= axis.ticks[-1] + slack
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert len(axis.ticks) <= MOST + 1
    assert len({written(t) for t in axis.ticks}) == len(axis.ticks), "no label stands twice"
    for a, b in itertools.pairwise(boxes(axis, axis.ticks, SHORTEST)):
        assert a[1] < b[0]


@given(st.lists(NUMBERS, min_size=1))
def test_data_lie_between_the_labels(values: list[float]) -> None:
    holds(fit(values, ""), values)


@given(st.lists(POSITIVE, min_size=1))
def test_data_lie_between_the_labels_of_logarithmic_axes(values: list[float]) -> None:
    holds(fit(values, "", log=True), values)


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from([0.0, 100.0])), min_size=1))
def test_shares_end_at_their_limits(values: list[float]) -> None:
    axis = fit(values, "", floor=0.0, ceiling=100.0)
    holds(axis, values)
    assert 0 <= axis.low < axis.high <= 100


@given(st.integers(0, 300), st.integers(0, 300))
def test_epochs_are_whole(first: int, more: int) -> None:
    axis = fit([first, first + more], "", whole=True)
    holds(axis, [first, first + more])
    assert all(t == int(t) for t in axis.ticks)


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0.62, 1.8, True, ["0.5", "0.7", "1", "1.5", "2"]),  # Vega stopped at 1
        (0.62, 1.8, False, ["0.6", "0.8", "1", "1.2", "1.4", "1.6", "1.8"]),
        (26.2, 56.9, False, ["25", "30", "35", "40", "45", "50", "55", "60"]),
        (1, 10, False, ["0", "2", "4", "6", "8", "10"]),
        (3e-5, 0.4, True, ["1e−05", "0.001", "0.1", "10"]),
        (-19.6, 3.4, False, ["−20", "−15", "−10", "−5", "0", "5"]),
        (2e6, 9e6, False, ["2e6", "3e6", "4e6", "5e6", "6e6", "7e6", "8e6", "9e6"]),
        (1e9, 100_000_000_101, True, ["1e9", "3e9", "1e10", "3e10", "1e11", "3e11"]),
        (31_000, 52_000, False, ["30,000", "40,000", "50,000", "60,000"]),
    ],
)
def test_ticks_by_hand(low: float, high: float, log: bool, expected: list[str]) -> None:
    assert [written(t) for t in ticks_around(low, high, log=log)] == expected


@pytest.mark.parametrize("log", [True, False], ids=["logarithmic", "linear"])
def test_the_drawn_chart_shows_every_label(log: bool) -> None:
    marks = [Mark("a", "weight", 0.62, 10.0), Mark("b", "weight", 1.8, 50.0)]
    x, y = fit([m.x for m in marks], "x", log=log), fit([m.y for m in marks], "y")
    svg = vl_convert.vegalite_to_svg(scatter(marks, x, y, front=False, width=SHORTEST))
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    for tick in (*x.ticks, *y.ticks):
        assert written(tick) in shown
