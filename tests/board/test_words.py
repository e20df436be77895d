"""Higher, lower, cannot be told apart, not tested, and a failure such as diverged: five things, nowhere taken for one
another.
"""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import pytest
from normbench.board import CLEAN, Board, Entry, boards, boards_json, why_not, why_not_compared
from normbench.cli.terminal import render
from normbench.pages import build
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.schema import to_row
from normbench.store.store import Store
from normbench.studies import registry
from normbench.studies.base import evidence
from rich.console import Console

from tests.site import synthetic

ERROR = "Expected more than 1 value per channel"
#: Seeds of each method of one board; those of `sn` diverge, those of `in` end in two ways, and of `wn` one of three.
SEEDS = {"bn": 3, "gn": 2, "ln": 1, "sn": 3, "in": 2, "wn": 3}
WHY = {
    "bn": "",
    "gn": "not tested: 2 seeds, 3 needed",
    "ln": "not tested: 1 seed, 3 needed",
    "sn": "diverged",
    "in": "1 of 2 diverged, 1 of 2 error",
    "wn": "not tested: 2 seeds, 3 needed",
}


def ended(trial: Trial) -> Outcome:
    if trial.norm_label == "in" and trial.seed == 1:
        return synthetic.failure(trial, Status.ERROR, ERROR)
    if trial.norm_label in {"sn", "in"} or (trial.norm_label == "wn" and trial.seed == 2):
        return synthetic.failure(trial)
    return synthetic.outcome(trial)


def trials() -> list[Trial]:
    return [synthetic.trial(norm, seed) for norm, seeds in SEEDS.items() for seed in range(seeds)]


@pytest.fixture
def board() -> Board:
    (made,) = boards(to_row("demo", t, synthetic.identity(t), ended(t)) for t in trials())
    return made


def entry(board: Board, norm: str) -> Entry:
    return next(e for e in board.entries if e.norm == norm)


@pytest.mark.parametrize("norm", SEEDS)
def test_an_entry_is_tested_or_says_why_not(board: Board, norm: str) -> None:
    assert why_not(entry(board, norm), CLEAN) == WHY[norm]
    assert bool(board.rank(entry(board, norm), CLEAN)) == (WHY[norm] == "")


def test_what_was_not_measured_is_neither_untested_nor_failed(board: Board) -> None:
    other = board.metrics[1]
    bare = Entry(**{**vars(entry(board, "bn")), "cells": {CLEAN.key: entry(board, "bn").cells[CLEAN.key]}})
    assert (why_not(bare, CLEAN), why_not(bare, other)) == ("", "not measured")


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ("bn", "bn", ""),
        ("bn", "gn", "not tested: 2 seeds, 3 needed"),
        ("ln", "gn", "not tested: 1 seed, 3 needed"),
        ("gn", "sn", "diverged"),
        ("sn", "gn", "diverged"),
        ("bn", "sn", "diverged"),
        ("sn", "bn", "diverged"),
    ],
)
def test_a_pair_is_compared_or_says_why_not(board: Board, a: str, b: str, why: str) -> None:
    assert why_not_compared(entry(board, a), entry(board, b), CLEAN) == why


def test_entries_without_enough_seeds_in_common_are_compared_all_the_same() -> None:
    """What their seeds do stays in their spread then."""
    seeds = {"bn": (0, 1, 2), "gn": (2, 3, 4)}
    (made,) = boards(
        to_row("demo", t, synthetic.identity(t), synthetic.outcome(t))
        for t in (synthetic.trial(n, s) for n, own in seeds.items() for s in own)
    )
    assert why_not_compared(*made.entries, CLEAN) == ""
    assert [why_not(e, CLEAN) for e in made.entries] == ["", ""]
    assert [rank and rank.of for e in made.entries if (rank := made.rank(e, CLEAN))] == [2, 2]


def test_nobody_who_was_not_tested_may_be_the_best(board: Board) -> None:
    assert [e.norm for e in board.tied_for_first(CLEAN)] == ["bn"]
    (few,) = boards(
        to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in synthetic.grid(["bn"], 2, [0])
    )
    assert few.tied_for_first(CLEAN) == []
    assert not few.tested(CLEAN)
    assert board.tested(CLEAN)


def test_json_says_why_and_gives_no_rank(board: Board) -> None:
    (told,) = boards_json([board])
    found = {e["norm"]: e for e in told["entries"]}
    for norm, why in WHY.items():
        clean = found[norm]["metrics"].get("clean")
        if clean is None:
            assert "diverged" in found[norm]["status"]
        else:
            assert clean["why_not"] == why
            assert (clean["rank"] is None) == bool(why)


def shown(made: list[Board]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(made))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_terminal_says_why_there_is_no_rank(board: Board) -> None:
    accuracy = shown([board]).partition("Accuracy, %")[2].partition("Robust accuracy")[0]
    lines = {line.split()[1]: line for line in accuracy.splitlines() if len(line.split()) > 1}
    assert not any(word in lines["bn"] for word in ("not tested", "diverged"))
    assert "not tested: 2 seeds, 3 needed" in lines["gn"]
    assert "not tested: 1 seed, 3 needed" in lines["ln"]
    assert "diverged: loss became non-finite in epoch 2" in lines["sn"]
    assert "not tested" not in lines["sn"]
    assert "1 of 2 diverged, 1 of 2 error: loss became non-finite" in lines["in"]
    assert "1 of 3 diverged: loss became non-finite in epoch 2; not tested: 2 seeds, 3 needed" in lines["wn"]
    assert [lines[n].split()[0][0] for n in ("bn", "gn", "sn")] == ["1", "–", "–"]


def test_the_terminal_says_it_once_where_it_is_the_same_for_all() -> None:
    made = boards(
        to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in synthetic.grid(["bn", "gn"], 1, [0])
    )
    text = shown(made)
    assert "Accuracy, %: not tested: 1 seed, 3 needed\n" in text
    assert "ordered by bim[steps=20] 1/255): not tested: 1 seed, 3 needed\n" in text
    assert text.count("not tested: 1 seed") == 2
    assert not re.search(r"^ *Rank", text, re.MULTILINE)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("results"))
    for t in trials():
        store.write("demo", t, synthetic.identity(t), ended(t))
    return build(store, tmp_path_factory.mktemp("site") / "site").parent


def rows_of(page: str) -> dict[str, str]:
    """The text of each row of the first table, by method."""
    table = page.partition("<tbody>")[2].partition("</table>")[0]
    rows = [html.unescape(re.sub("<[^>]+>", " ", row)) for row in table.split("<tr ")[1:]]
    return {
        norm: " ".join(row.split()) for norm in SEEDS for row in rows if f"/{norm}.html" in row or f" {norm} " in row
    }


def test_boards_on_pages_say_why_there_is_no_rank(pages: Path) -> None:
    page = (pages / "accuracy.html").read_text()
    rows = rows_of(page)
    assert "not tested" not in rows["bn"]
    assert "±" in rows["bn"]
    assert "not tested: 2 seeds, 3 needed" in rows["gn"]
    assert "not tested: 1 seed, 3 needed" in rows["ln"]
    assert "3 of 3 diverged : loss became non-finite in epoch 2" in rows["sn"]
    assert "not tested" not in rows["sn"]
    assert "1 of 3 diverged" in rows["wn"]
    assert "not tested: 2 seeds, 3 needed" in rows["wn"]
    assert "no interval" not in page
    first = re.findall(r'<tr class="[^"]* first" .*?<bdi>([\w+]+)</bdi>', page)
    assert first == ["bn"], "nobody else is marked as one who may be the best"


def test_a_methods_page_says_it_too(pages: Path) -> None:
    text = {n: " ".join((pages / "methods" / f"{n}.html").read_text().split()) for n in ("bn", "ln", "sn")}
    assert "rank 1" in text["bn"]
    assert "not tested: 1 seed, 3 needed" in text["ln"]
    assert "rank" not in text["ln"].partition("<tbody>")[2]
    assert "3 of 3 diverged" in text["sn"]


def test_a_chart_of_differences_names_what_was_not_tested(pages: Path) -> None:
    captions = re.findall("<figcaption>(.*?)</figcaption>", (pages / "accuracy.html").read_text(), re.DOTALL)
    (caption,) = [c for c in captions if "Difference of the means over seeds" in c]
    named = caption.partition("Not tested: ")[2].removesuffix(".")
    assert set(named.split(", ")) == {"gn", "ln", "wn"}
    assert "told apart" not in caption


def test_a_board_without_any_test_has_no_ranks_on_its_page(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for t in synthetic.grid(["bn", "gn"], 2, [0]):
        store.write("demo", t, synthetic.identity(t), synthetic.outcome(t))
    page = (build(store, tmp_path / "site").parent / "accuracy.html").read_text()
    assert '<th scope="col" class="n">Rank</th>' not in page
    assert 'class="n rank"' not in page
    assert page.count("not tested: 2 seeds, 3 needed") >= 2


def test_the_front_page_names_the_five_things(pages: Path) -> None:
    text = (pages / "index.html").read_text()
    assert "higher, lower, cannot be told apart, not tested (too few seeds), and a failure such as diverged" in text


def test_a_study_of_too_few_seeds_says_not_tested() -> None:
    def attacked(norm: str, seed: int) -> dict[str, Any]:
        trial = synthetic.trial(norm, seed)
        outcome = synthetic.outcome(trial)
        bim = next(a for a in outcome.attacks if a.attack.startswith("bim"))
        outcome = outcome.model_copy(
            update={"attacks": (*outcome.attacks, bim.model_copy(update={"attack": "square"}))}
        )
        return to_row("demo", trial, synthetic.identity(trial), outcome)

    found = evidence([attacked(norm, 0) for norm in ("bn", "gn", "ln", "wn")])
    (section,) = registry.make("bim-worst-case").sections(found)
    assert section.verdict == "not tested"
    assert "not tested: 1 seed, 3 needed" in section.answer
    assert any("Without a rank, as 3 seeds are needed: bn, gn, ln, wn." in note for note in section.notes)
