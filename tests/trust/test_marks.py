"""Marks: they stay with the bytes that they are about, and nothing that stands beside them can harm them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from normbench.board import boards, boards_json
from normbench.cli.terminal import render
from normbench.pages import build
from normbench.pages.data_page import board_csv
from normbench.spec.trial import Trial
from normbench.store.files import open_files
from normbench.store.levels import Level, lowest
from normbench.store.marks import FILE, Compared, Mark, add, level_of, read, valid, with_levels
from normbench.store.merge import merge
from normbench.store.store import Store, fingerprint_of
from pydantic import ValidationError
from rich.console import Console

from tests.site import synthetic

HOSTILE = "<script>alert(1)</script>"


def _mark(store: Store, trial: Trial, level: Level = Level.SMOKE, **fields: object) -> Mark:
    content = {
        "trial_id": trial.trial_id,
        "shard": fingerprint_of(store.path("demo", trial.trial_id).read_bytes()),
        "level": level,
        "extent": "first 10 steps",
        "compared": (Compared(what="loss of step 1", expected=2.3, found=2.3, tolerance=0.01),),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "provenance": {"commit": "0" * 40},
    }
    return Mark.model_validate(content | fields)


def _stored(root: Path, *trials: Trial) -> Store:
    store = Store(root)
    for trial in trials:
        store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial))
    return store


def _level(store: Store, trial: Trial) -> Level:
    return level_of(valid(store).get(("demo", trial.trial_id), ()))


def test_a_mark_lasts_as_long_as_the_shard(tmp_path: Path) -> None:
    trial = synthetic.trial()
    store = _stored(tmp_path, trial)
    assert _level(store, trial) is Level.SELF_REPORTED
    assert add(open_files(tmp_path), "demo", [_mark(store, trial)]) == 1
    assert _level(store, trial) is Level.SMOKE
    add(open_files(tmp_path), "demo", [_mark(store, trial, Level.RERUN, when=datetime(2025, 1, 2, tzinfo=UTC))])
    assert _level(store, trial) is Level.RERUN  # the best counts, not the latest
    before = (tmp_path / "demo" / FILE).read_bytes()
    store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial, quality=(0.99, 0.9, 2.0)))
    assert _level(store, trial) is Level.SELF_REPORTED
    assert (tmp_path / "demo" / FILE).read_bytes() == before
    store.path("demo", trial.trial_id).unlink()
    assert valid(store) == {}


def test_lines_are_added_once_in_the_order_of_trials_and_never_changed(tmp_path: Path) -> None:
    trials = [synthetic.trial(seed=s) for s in range(4)]
    store = _stored(tmp_path, *trials)
    marks = [_mark(store, t) for t in trials]
    assert add(open_files(tmp_path), "demo", marks[:2]) == 2
    first = set((tmp_path / "demo" / FILE).read_text().splitlines())
    assert add(open_files(tmp_path), "demo", marks) == 2
    lines = (tmp_path / "demo" / FILE).read_text().splitlines()
    assert first < set(lines)
    ids = [json.loads(line)["trial_id"] for line in lines]
    assert ids == sorted(t.trial_id for t in trials)
    assert add(open_files(tmp_path), "demo", marks) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda line: line.replace("smoke-reproduced", "re-run by maintainers"), "line 1 was changed"),
        (lambda line: line.replace('"expected":2.3', '"expected":2.4'), "line 1 was changed"),
        (lambda line: line[:-10], "line 1 is no mark"),
        (lambda line: "[]", "line 1 is no mark"),
        (lambda line: "[" * 100_000, "line 1 is no mark"),
        (lambda line: "<<<<<<< ours", "line 1 is no mark"),
        (lambda line: line.replace("first 10 steps", r"\ud800"), "line 1 is no mark"),
        (lambda line: line.replace('"tolerance":0.01', '"tolerance":NaN'), "line 1 is no mark"),
        (lambda line: line.replace('"level":"smoke-reproduced"', '"level":"self-reported"'), "line 1 is no mark"),
        (lambda line: line.replace('"trial_id":"', '"trial_id":"../../'), "line 1 was changed"),
    ],
)
def test_a_spoilt_line_is_told_and_costs_itself(tmp_path: Path, spoil: object, message: str) -> None:
    trials = sorted((synthetic.trial(seed=s) for s in range(2)), key=lambda t: t.trial_id)
    store = _stored(tmp_path, *trials)
    add(open_files(tmp_path), "demo", [_mark(store, t) for t in trials])
    path = tmp_path / "demo" / FILE
    first, second = path.read_text().splitlines()
    path.write_text(f"{spoil(first)}\n{second}\n")  # type: ignore[operator]
    assert message in read(open_files(tmp_path), "demo")[1][0]
    assert [_level(store, t) for t in trials] == [Level.SELF_REPORTED, Level.SMOKE]
    assert message in store.problems[str(path)]
    add(open_files(tmp_path), "demo", [_mark(store, trials[0])])
    assert [_level(store, t) for t in trials] == [Level.SMOKE, Level.SMOKE]


def test_a_mark_of_another_folder_is_no_mark_here(tmp_path: Path) -> None:
    trial = synthetic.trial()
    store = _stored(tmp_path, trial)
    (tmp_path / "outside.parquet").write_bytes(store.path("demo", trial.trial_id).read_bytes())
    add(open_files(tmp_path), "demo", [_mark(store, trial, trial_id="../outside")])
    assert valid(store) == {}
    with pytest.raises(ValidationError):
        _mark(store, trial, level=Level.SELF_REPORTED)


def test_merging_brings_marks_of_the_shards_that_are_there(tmp_path: Path) -> None:
    trials = [synthetic.trial(seed=s) for s in range(2)]
    ours, theirs = _stored(tmp_path / "ours", *trials), _stored(tmp_path / "theirs", trials[0])
    theirs.write(
        "demo", trials[1], synthetic.identity(trials[1]), synthetic.outcome(trials[1], quality=(0.5, 0.1, 2.0))
    )
    add(theirs.files, "demo", [_mark(theirs, t) for t in trials])
    alone = Store(tmp_path / "marks")  # as CI leaves them: marks without shards
    (alone.root / "demo").mkdir(parents=True)
    (alone.root / "demo" / FILE).write_bytes((theirs.root / "demo" / FILE).read_bytes())
    assert merge(alone, ours) == {"added": 0, "replaced": 0, "kept": 0, "marks": 1}
    assert [_level(ours, t) for t in trials] == [Level.SMOKE, Level.SELF_REPORTED]


def test_an_entry_is_as_its_least_checked_trial(tmp_path: Path) -> None:
    trials = [*synthetic.grid(["bn", "gn"], weight_decays=[0])]
    store = _stored(tmp_path, *trials)
    add(
        open_files(tmp_path),
        "demo",
        [_mark(store, t, Level.RERUN if t.seed else Level.SMOKE) for t in trials if t.norm_label == "gn" or not t.seed],
    )
    (board,) = boards(with_levels(store, store.rows()))
    assert {e.norm: e.level for e in board.entries} == {"bn": Level.SELF_REPORTED, "gn": Level.SMOKE}
    assert [r.level for e in board.entries for r in e.runs if e.norm == "gn"] == [Level.SMOKE, Level.RERUN, Level.RERUN]
    assert [e["level"] for e in boards_json([board])[0]["entries"]] == ["self-reported", "smoke-reproduced"]
    assert "re-run by maintainers" in board_csv(board)
    console = Console(width=200, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    console.print(render([board]))
    text = console.export_text()
    assert "gn ◐" in text
    assert "◐ smoke-reproduced" in text
    assert lowest([]) is Level.SELF_REPORTED


def test_pages_say_what_was_checked_and_show_hostile_text_as_text(tmp_path: Path) -> None:
    trials = [*synthetic.grid(["bn", "gn"], weight_decays=[0])]
    store = _stored(tmp_path / "results", *trials)
    odd = {
        "extent": HOSTILE,
        "compared": (Compared(what=HOSTILE, expected=None, found=None, tolerance=0.0),),
        "provenance": {"commit": HOSTILE, "cpu": HOSTILE},
    }
    add(store.files, "demo", [_mark(store, t, **odd) for t in trials if t.norm_label == "gn"])
    site = build(store, tmp_path / "site").parent
    accuracy = (site / "accuracy.html").read_text()
    assert accuracy.count('title="smoke-reproduced: ') == 1
    assert '<span class="visually-hidden"> self-reported</span>' in accuracy
    assert "An entry is as its least checked trial." in accuracy
    pages = {t.norm_label: (site / "trials" / f"{t.trial_id}.html").read_text() for t in trials}
    assert "<strong>smoke-reproduced</strong>" in pages["gn"]
    assert "<strong>self-reported</strong>" in pages["bn"]
    assert "&lt;script&gt;alert(1)" in pages["gn"]
    assert not any(HOSTILE in p.read_text() for p in site.rglob("*.html"))
    assert "smoke-reproduced" in (site / "methods" / "gn.html").read_text()
    assert "smoke-reproduced" in (site / "runs.html").read_text()
