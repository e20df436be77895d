"""The numbers that a board's script holds for the page that compares two methods."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from normbench.board import Board, boards, compare
from normbench.pages import compare_page
from normbench.store.store import Store

from tests.site import synthetic
from tests.site.conftest import context_of, fill


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    trials = list(synthetic.grid(["bn", "gn", "wn"], seeds=3, weight_decays=[0]))
    return fill(tmp_path_factory.mktemp("results"), trials)


@pytest.fixture(scope="module")
def board(store: Store) -> Board:
    (found,) = boards(store.rows())
    return found


def written(store: Store, out: Path) -> dict:
    """The numbers in the only board's script, of a site that has this page alone."""
    with context_of(store, out) as context:
        compare_page.write(context)
    (script,) = (out / "compare").iterdir()
    return json.loads(script.read_text().partition(",")[2].removesuffix(");\n"))


def test_every_pair_holds_what_the_board_says_of_it(store: Store, board: Board, tmp_path: Path) -> None:
    data = written(store, tmp_path / "site")
    assert [m["key"] for m in data["metrics"]] == [m.key for m in board.metrics]
    rows = {r["trial_id"]: r for r in store.rows()}
    told = 0
    for position, metric in enumerate(board.metrics):
        for a, b in combinations(sorted(board.entries, key=lambda e: e.label), 2):
            found = data["pairs"][f"{a.id}.{b.id}"][position]
            made = compare(board, a, b, metric)
            assert found[:4] == pytest.approx([made.mean, made.interval.low, made.interval.high, made.p])
            assert data["words"][found[4]] == made.verdict
            if metric.key != "clean":
                continue
            bits = [
                [
                    np.unpackbits(np.frombuffer(rows[p.trial_id]["clean_outcomes"], np.uint8))
                    for p in e.cells["clean"].points
                ]
                for e in (a, b)
            ]
            for (_, only_a, only_b, p), x, y in zip(found[6], *bits, strict=True):
                assert (only_a, only_b) == (int((x & ~y & 1).sum()), int((y & ~x & 1).sum()))
                assert p == pytest.approx(scipy.stats.binomtest(only_a, only_a + only_b).pvalue)
            if made.verdict == "cannot be told apart":
                assert found[5] is None
            else:
                told += 1
                drawn = np.mean(bits[0], axis=0)[: board.test_total] - np.mean(bits[1], axis=0)[: board.test_total]
                assert found[5] == made.beyond(scipy.stats.sem(drawn))
    assert told


def test_where_there_are_many_comparisons_the_headlines_stay(
    store: Store, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_page, "COMPARISONS", 6)  # three pairs in two metrics
    kept = {m["key"] for m in written(store, tmp_path / "site")["metrics"]}
    assert kept == {"clean", board.headline("robust").key}
    monkeypatch.setattr(compare_page, "COMPARISONS", 3)
    assert {m["key"] for m in written(store, tmp_path / "site")["metrics"]} == {"clean"}


def test_a_board_with_too_many_pairs_has_no_script(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_page, "COMPARISONS", 2)
    folder = tmp_path / "site"
    with context_of(store, folder) as context:
        compare_page.write(context)
    assert not (folder / "compare").exists()
    assert "compare.js" not in (folder / "compare.html").read_text()
    assert "Against bn" in (folder / "compare.html").read_text()


def test_outcomes_beyond_the_limit_are_left_to_the_parquet_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [c[6] for pair in written(store, tmp_path / "site")["pairs"].values() for c in pair]
    assert any(images)
    monkeypatch.setattr(compare_page, "OUTCOME_BYTES", 100)
    assert not any(c[6] for pair in written(store, tmp_path / "site")["pairs"].values() for c in pair)
