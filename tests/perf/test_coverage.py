"""The smallest size of `perf/coverage.py`: boards err as rarely as promised, and find what is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import normbench.board.ranking
import pytest
import scipy.stats

BENCH = Path(__file__).parents[2] / "perf" / "coverage.py"


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_bench", BENCH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOARDS = 150
#: More wrong boards than this come from an error of .05 in one of ten thousand runs; draws are the same every time.
MOST = int(scipy.stats.binom(BOARDS, 0.05).isf(1e-4))
CASES = [
    (2, 3, "x1..x8", 1.0, ""),
    (5, 3, "4/chi2(4)", 0.0, ""),
    (10, 3, "x1..x8", 1.0, ""),
    (20, 3, "equal", 2.0, ""),
    (10, 5, "equal", 1.0, "360 images"),
    (10, 5, "equal", 1.0, "one failed"),
    (10, 5, "equal", 1.0, "seeds missing"),
]


@pytest.mark.parametrize(("methods", "seeds", "kind", "shared", "other"), CASES)
def test_boards_without_a_difference_show_none(
    coverage: ModuleType, methods: int, seeds: int, kind: str, shared: float, other: str
) -> None:
    line = coverage.cell(methods, seeds, kind, shared, other, BOARDS)
    assert line["error"] * BOARDS <= MOST
    if shared:
        assert line["power"] > line["overlap power"]


def test_with_two_seeds_nothing_is_told_apart(coverage: ModuleType) -> None:
    line = coverage.cell(5, 2, "equal", 1.0, "", 20)
    assert (line["error"], line["power"]) == (0, 0)


def test_twenty_methods_of_three_seeds_are_told_apart_where_they_differ(coverage: ModuleType) -> None:
    line = coverage.cell(20, 3, "equal", 0.0, "", 200)
    assert line["power"] >= 0.65
    assert line["overlap error"] > 4 * line["error"], "of the rule before this one"


def test_lines_count_while_the_rule_finds_what_it_found(coverage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed table is that of today's rule; a rule that is a little bolder takes none of its lines."""
    file = BENCH.parent / "coverage.jsonl"
    lines, same = coverage.kept(file, 2000)
    assert same
    assert set(lines) == set(coverage.settings(smoke=False))
    monkeypatch.setattr("normbench.board.ranking.CONFIDENCE", 0.949)
    normbench.board.ranking._place.cache_clear()
    try:
        assert coverage.kept(file, 2000) == ({}, False)
    finally:
        normbench.board.ranking._place.cache_clear()
