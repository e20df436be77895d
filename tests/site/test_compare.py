"""The numbers that a board's script holds for the page that compares two methods."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from normbench.board import Board, against, boards, compare_entries
from normbench.pages import build, compare_page
from normbench.store.store import Store

from tests.site import synthetic
from tests.site.conftest import fill


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    trials = list(synthetic.grid(["bn", "gn", "wn"], seeds=3, weight_decays=[0]))
    return fill(tmp_path_factory.mktemp("results"), trials)


@pytest.fixture(scope="module")
def board(store: Store) -> Board:
    (found,) = boards(store.rows())
    return found


def written(store: Store, out: Path) -> dict:
    (script,) = (build(store, out).parent / "compare").iterdir()
    return json.loads(script.read_text().partition(",")[2].removesuffix(");\n"))


def test_every_pair_holds_both_adjustments(store: Store, board: Board, tmp_path: Path) -> None:
    data = written(store, tmp_path / "site")
    assert [m["key"] for m in data["metrics"]] == [m.key for m in board.metrics]
    for position, metric in enumerate(board.metrics):
        adjusted = {(e.id, r.id): c for r in board.entries for e, c in against(board, r, metric)}
        for a, b in combinations(sorted(board.entries, key=lambda e: e.label), 2):
            found = data["pairs"][f"{a.id}.{b.id}"][position]
            plain = compare_entries(a, b, metric)
            assert found[:4] == pytest.approx([plain.mean, plain.interval.low, plain.interval.high, plain.p])
            assert data["words"][found[4]] == plain.verdict
            # `against` is entry minus reference, and here the reference stands first.
            for p, word, reference, entry in ((found[5], found[6], a, b), (found[7], found[8], b, a)):
                expected = adjusted[entry.id, reference.id]
                assert p == pytest.approx(expected.p_holm)
                turned = {"higher": "lower", "lower": "higher"}
                assert data["words"][word] == turned.get(expected.verdict, expected.verdict)
    assert {e["compared"]["clean"] for e in data["entries"]} == {2}


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
    folder = build(store, tmp_path / "site").parent
    assert not (folder / "compare").exists()
    assert "compare.js" not in (folder / "compare.html").read_text()
    assert "Against bn" in (folder / "compare.html").read_text()


def test_outcomes_beyond_the_limit_are_left_to_the_parquet_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [c[9] for pair in written(store, tmp_path / "site")["pairs"].values() for c in pair]
    assert any(images)
    monkeypatch.setattr(compare_page, "OUTCOME_BYTES", 100)
    assert not any(c[9] for pair in written(store, tmp_path / "site")["pairs"].values() for c in pair)
