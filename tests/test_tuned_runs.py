"""Tuning as people use it: one command from candidates to boards, killed between the phases and gone on with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from normbench.paths import shipped
from normbench.store.schema import trial_of
from normbench.store.verify import verify

from tests.test_cli import SABOTEUR, Place

pytestmark = pytest.mark.timeout(
    1200
)  # each starts Ray two or three times, which takes minutes where many share the cores

RATES = (0.03, 0.1, 0.3)
METHODS = ("bn", "gn", "none")


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> Place:
    return Place(tmp_path, data_dir)


def rows(place: Place, stage: str) -> list[dict[str, Any]]:
    return [r for r in place.store.rows() if r["stage"] == stage]


@pytest.mark.faults
def test_digits_tuned_is_killed_after_tuning_and_goes_on(place: Place) -> None:
    """The suite that ships, for real: candidates, the choice, final trials, boards, site."""
    (place.root / "small.yaml").write_text(shipped("suites", "digits-tuned.yaml").read_text())
    before = place.plan()
    assert (before["total"], before["missing"], before["waiting"]) == (15, 9, 6)
    assert [t["chosen"] for t in before["tuning"]] == [None] * 3
    process = place.start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("[9/9]"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    candidates = {r["trial_id"]: r for r in rows(place, "tuning")}
    assert len(candidates) >= 8, "".join(lines)

    again = place.bench(*place.run_arguments())
    assert again.returncode == 0, again.stderr + again.stdout
    assert f"9 candidates, 6 final trials after tuning ({len(candidates)} cached" in again.stdout
    tried = {r["trial_id"]: r for r in rows(place, "tuning")}
    assert {(r["norm"], r["lr"], r["seed"], r["status"]) for r in tried.values()} == {
        (n, lr, 0, "ok") for n in METHODS for lr in RATES
    }
    assert all(tried[k]["started"] == r["started"] for k, r in candidates.items()), "no candidate is run twice"
    for row in tried.values():
        assert (row["clean_correct"], row["test_total"], row["clean_outcomes"], row["test_loss"], row["attacks"]) == (
            None,
            None,
            None,
            None,
            [],
        )
        assert trial_of(row).data.validation == 0.2

    finals = rows(place, "final")
    assert sorted((r["norm"], r["seed"]) for r in finals) == [(n, s) for n in METHODS for s in (0, 1)]
    for norm in METHODS:
        scores = {r["lr"]: r["validation_accuracy"] for r in tried.values() if r["norm"] == norm}
        chosen = min(scores, key=lambda lr: (-scores[lr], lr))
        assert {r["lr"] for r in finals if r["norm"] == norm} == {chosen}
        assert f"{norm}: lr {chosen:g}, validation accuracy {scores[chosen]:.2%}" in again.stdout
    assert {trial_of(r).data.validation for r in finals} == {0.0}
    assert all(r["test_total"] == 360 for r in finals)
    assert "Tuning, validation accuracy in %" in again.stdout
    assert verify(place.store) == (15, [])

    after = place.plan()
    assert (after["total"], after["cached"], after["waiting"], after["estimate_seconds"]) == (15, 15, 0, 0)
    board = json.loads(place.bench("board", "small.yaml", "--results", "results", "--json").stdout)
    assert sorted(t["trial"] for b in board for e in b["entries"] for t in e["trials"]) == sorted(
        r["trial_id"] for r in finals
    )
    assert "9 candidates, 6 final trials" in place.bench("status", "small.yaml", "--results", "results").stdout
    page = (place.root / "site" / "tuning.html").read_text()
    assert all(f"{100 * r['validation_accuracy']:.2f}" in page for r in tried.values())


@pytest.mark.faults
def test_a_method_that_fails_at_every_rate_leaves_its_rows(place: Place) -> None:
    place.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")]))
    path = place.suite(norms="gn, 'saboteur[how=nan]'", seeds=2)
    path.write_text(
        path.read_text().replace("lr: 0.05", "momentum: 0.9") + "tune: {lr: [0.01, 0.05], validation: 0.25}\n"
    )
    first = place.bench(*place.run_arguments())
    assert first.returncode == 0, first.stderr + first.stdout
    assert "[4/4]" in first.stdout
    failed = [r for r in rows(place, "final") if r["norm"] != "gn"]
    assert [(r["status"], r["epoch"], r["seed"]) for r in sorted(failed, key=lambda r: r["seed"])] == [
        ("diverged", 0, 0),
        ("diverged", 0, 1),
    ]
    assert {r["reason"] for r in failed} == {
        "not trained: tuning could choose no lr (2 diverged): the training loss was not finite in epoch 1"
    }
    assert {r["status"] for r in rows(place, "final") if r["norm"] == "gn"} == {"ok"}
    assert place.plan()["cached"] == 8
    assert verify(place.store) == (8, [])
    assert "tuning could choose no lr" in (place.root / "site" / "accuracy.html").read_text()
