"""What tuning tried, from rows alone; and that boards leave it out."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from normbench.board import boards
from normbench.board.tuning import Sweep, sweeps
from normbench.cli.terminal import TRIED, render_sweeps
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.schema import to_row
from rich.console import Console

from tests.site import synthetic


def row(trial: Trial, outcome: Outcome, suite: str = "demo", **identity: Any) -> dict[str, Any]:
    return to_row(suite, trial, synthetic.identity(trial) | identity, outcome)


def candidates(
    norm: str, scores: dict[float, float | None], seeds: tuple[int, ...] = (0,), **spec: Any
) -> list[dict[str, Any]]:
    made = []
    for (lr, accuracy), seed in itertools.product(scores.items(), seeds):
        trial = synthetic.candidate(synthetic.trial(norm, **spec), lr, seed)
        made.append(
            row(
                trial,
                synthetic.tried(trial, accuracy)
                if accuracy is not None
                else synthetic.tried(trial, 0.1, Status.DIVERGED, 1),
            )
        )
    return made


def shown(found: list[Sweep]) -> str:
    console = Console(file=io.StringIO(), width=160)
    for part in render_sweeps(found):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_sweep_a_method_with_its_price() -> None:
    found = sweeps(candidates("gn", {0.3: 0.9, 0.1: 0.8}) + candidates("bn", {0.1: 0.7, 0.3: None}, seeds=(0, 1)))
    assert [(s.label, s.trials, s.epochs, s.seeds, s.train_seconds, s.wall_seconds) for s in found] == [
        ("bn", 4, 14, 2, 10.0, 16.0),
        ("gn", 2, 12, 1, 5.0, 8.0),
    ]
    bn, gn = found
    assert [(t.text, t.accuracy, t.display, t.chosen) for t in bn.tried] == [
        ("lr 0.1", 0.7, "70.00", True),
        ("lr 0.3", None, "diverged", False),
    ]
    assert (gn.chosen.text if gn.chosen else "", gn.at_the_edge, gn.held_out) == ("lr 0.3", "largest lr", 0.1)


def test_boards_leave_candidates_out() -> None:
    finals = [row(t, synthetic.outcome(t)) for t in synthetic.grid(["bn"], seeds=2, weight_decays=[0])]
    tried = candidates("bn", {0.1: 0.7, 0.3: 0.9}) + candidates("gn", {0.1: 0.7})
    assert boards(finals + tried) == boards(finals)
    assert boards(tried) == []


def test_the_choice_is_what_the_final_trials_have() -> None:
    """Candidates of an earlier list stay in the results: the rule over all of them need not be what was chosen in the
    end.
    """
    tried = candidates("bn", {0.1: 0.7, 0.3: 0.9, 0.5: 0.8})
    final = synthetic.trial("bn", 3, lr=0.5)
    (sweep,) = sweeps([*tried, row(final, synthetic.outcome(final))])
    assert [t.text for t in sweep.tried if t.chosen] == ["lr 0.5"]
    assert sweeps([*tried, row(final, synthetic.outcome(final), suite="other")])[0].chosen == sweeps(tried)[0].chosen
    untrained = synthetic.trial("bn", 3, lr=0.1)
    (sweep,) = sweeps([*tried, row(untrained, synthetic.failure(untrained), no_choice="nothing could be chosen")])
    assert [t.text for t in sweep.tried if t.chosen] == ["lr 0.3"], "a row that was not trained shows no choice"


def test_cells_and_suites_are_apart() -> None:
    found = sweeps(
        candidates("bn", {0.1: 0.7, 0.3: 0.9}, batch_size=8) + candidates("bn", {0.1: 0.9, 0.3: 0.7}, batch_size=32)
    )
    assert [(s.label, s.chosen.text if s.chosen else "") for s in found] == [
        ("bn · batch size 8", "lr 0.3"),
        ("bn · batch size 32", "lr 0.1"),
    ]


def test_a_choice_within_the_range_has_no_warning() -> None:
    (sweep,) = sweeps(candidates("bn", {0.1: 0.7, 0.3: 0.9, 0.5: 0.8}))
    assert sweep.at_the_edge == ""
    (sweep,) = sweeps(candidates("bn", {0.1: None, 0.3: None}))
    assert (sweep.at_the_edge, sweep.chosen) == ("", None)


@pytest.mark.parametrize("count", [3, TRIED + 1])
def test_in_the_terminal(count: int) -> None:
    scores: dict[float, float | None] = {lr / 100: 0.5 + lr / 1000 for lr in range(1, count)} | {0.9: None}
    text = shown(sweeps(candidates("bn", scores) + candidates("gn", {0.01: 0.4, 0.9: 0.6})))
    assert ("[50.20]" if count == 3 else "lr 0.08") in text
    assert ("[60.00]*" if count == 3 else "lr 0.9*") in text
    assert "0.1 of the training images" in text
    assert ("diverged" in text) == (count == 3)
    assert render_sweeps([]) == []
