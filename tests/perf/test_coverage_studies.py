"""The smallest size of `perf/coverage_studies.py`: intervals hold the truth, and what is not so is rarely claimed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import scipy.stats

BENCH = Path(__file__).parents[2] / "perf" / "coverage_studies.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_studies", BENCH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fewest(repeats: int, promised: float) -> float:
    """A share that a rule as good as promised falls below in one of ten thousand runs; draws are the same every
    time.
    """
    return float(scipy.stats.binom(repeats, promised).ppf(1e-4)) / repeats


CONTRASTS = [
    (3, 3, "equal", 0.0, ""),
    (3, 3, ".2, 1, 3", 2.0, ""),
    (12, 3, ".2, 1, 3", 0.0, "a noisy column"),
    (3, 5, ".2, 1, 3", 0.0, "a tenth missing"),
]
REPEATS = 150


@pytest.mark.parametrize("setting", CONTRASTS)
def test_intervals_hold_the_truth(bench: ModuleType, setting: tuple[int, int, str, float, str]) -> None:
    line = bench.contrast(*setting, REPEATS)
    for name in ("noisiest", "mean", "hump"):
        assert line[name] >= fewest(REPEATS, 0.95), name


def test_of_groups_that_spread_alike_the_interval_is_hardly_longer_than_with_one_spread(bench: ModuleType) -> None:
    assert bench.contrast(12, 3, "equal", 0.0, "", 40)["length"] < 1.15


@pytest.mark.parametrize(("height", "truth"), [(1.0, "none"), (1.0, "square root"), (1.0, "4 x width"), (0.3, "width")])
def test_what_is_not_so_is_rarely_claimed(bench: ModuleType, height: float, truth: str) -> None:
    line = bench.study("9 x 4", "parabola", height, truth, uneven=False, seeds=3, repeats=50)
    assert line["slope"] >= fewest(50, 0.95)
    assert line["follows: wrong"] <= 1 - fewest(50, 0.95)
    assert line["equals: wrong"] <= 1 - fewest(50, 0.95)


def test_a_best_batch_that_is_the_width_is_found(bench: ModuleType) -> None:
    line = bench.study("9 x 4", "parabola", 1.0, "width", uneven=False, seeds=3, repeats=20)
    assert line["follows: yes"] == 1
    assert line["equals: yes"] > 0.8


def test_the_smallest_size_is_a_table(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["coverage_studies.py", "--repeats", "2", "--smoke"])
    bench.main()
    text = capsys.readouterr().out
    assert "| groups | seeds | spreads |" in text
    assert text.count("| 9 x 4 | ") == 6
