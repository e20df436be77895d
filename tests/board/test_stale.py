"""Results that were made by other code than is here are marked wherever boards are shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from normbench.board import boards, boards_json
from normbench.board.sheets import markdown, sheets, tidy_csv
from normbench.cli.say import Screen
from normbench.cli.terminal import render
from normbench.plan import stale
from normbench.plan.digests import source_digest
from normbench.plan.identity import identity
from normbench.plan.stale import outdated, with_staleness
from normbench.spec.trial import PROTOCOL
from normbench.store.schema import to_row
from normbench.store.store import Store

from tests.conftest import MakeTrial
from tests.site import synthetic

BN = "normbench.norms.bn"
PARTS: dict[str, tuple[dict[str, Any], bool]] = {
    "as it is": ({}, False),
    "a module changed": ({"code": {BN: "0" * 16}}, True),
    "a module is gone": ({"code": {"normbench.norms.gone": "0" * 16}}, True),
    "another protocol": ({"protocol": PROTOCOL + 1}, True),
    "a package that is not here": ({"code": {"notinstalled.norm": "0" * 16}}, False),
    "other data and versions": ({"data": "0" * 64, "versions": {"torch": "0.1"}}, False),
    "nothing is known": ({"code": None, "protocol": None}, True),
}


@pytest.mark.parametrize(("change", "expected"), PARTS.values(), ids=PARTS)
def test_what_makes_a_result_stale(change: dict[str, Any], expected: bool) -> None:
    assert outdated({"code": {BN: source_digest(BN)}, "protocol": PROTOCOL, **change}) is expected


def test_what_a_trial_is_made_by_now_is_not_stale(make_trial: MakeTrial) -> None:
    assert not outdated(identity(make_trial(), None).parts())


def test_rows_of_one_source_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(stale, "outdated", lambda parts: bool(looks.append(parts)) or parts["seed"] == 1)
    rows = [{"source": str(i % 2), "identity_parts": json.dumps({"seed": i % 2})} for i in range(1000)]
    assert [row["stale"] for row in with_staleness(rows)] == [bool(i % 2) for i in range(1000)]
    assert len(looks) == 2


def test_boards_name_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for trial in synthetic.grid(["bn", "gn", "ln"], seeds=3, weight_decays=[0]):
        changed = trial.norm_label == "gn" or (trial.norm_label == "ln" and trial.seed == 2)
        code = {"code": {BN: "0" * 16}} if changed else {}
        store.write("demo", trial, synthetic.identity(trial) | code, synthetic.outcome(trial))
    (board,) = boards(with_staleness(store.rows(["demo"])))
    expected = {"bn": "", "gn": "stale", "ln": "1 of 3 stale"}
    assert {e.norm: e.stale for e in board.entries} == expected
    console = Screen(markup=False, highlight=False, width=60, record=True, file=io.StringIO())
    console.print(render([board]))
    text = console.export_text()
    assert "gn (stale)" in text
    assert "ln (1 of 3 stale)" in text
    assert "bn (" not in text
    assert "bench status SUITE --why" in " ".join(text.split())
    lines = list(csv.DictReader(io.StringIO(tidy_csv([board]))))
    assert {line["norm"]: line["stale"] for line in lines} == expected
    assert "1 of 3 stale" in markdown(sheets(board))
    found = {e["norm"]: [t["stale"] for t in e["trials"]] for e in boards_json([board])[0]["entries"]}
    assert found == {"bn": [False] * 3, "gn": [True] * 3, "ln": [False, False, True]}


def test_boards_of_code_that_is_here_say_nothing(tmp_path: Path) -> None:
    trials = synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0])
    rows = [to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in trials]
    (board,) = boards(with_staleness(rows))
    console = Screen(markup=False, highlight=False, record=True, file=io.StringIO())
    console.print(render([board]))
    assert "stale" not in console.export_text() + markdown(sheets(board))
