"""Boards, comparisons and the terminal give one answer, on every committed board; the terminal shows it whole."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import pytest
from normbench.board import UNDECIDED, boards, compare, told_apart
from normbench.cli.main import app
from normbench.cli.terminal import render
from normbench.store.store import Store
from rich.console import Console
from typer.testing import CliRunner

from tests.site import synthetic

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


@pytest.mark.parametrize("suite", sorted(p.stem for p in ROOT.joinpath("suites").glob("*.yaml")))
def test_board_comparison_and_terminal_agree_on_every_pair_of_every_committed_board(suite):
    made = list(committed(suite))
    for board in made:
        for metric in board.metrics:
            apart = 0
            for a, b in itertools.combinations(board.entries, 2):
                found = compare(board, a, b, metric)
                assert found.turned.verdict == compare(board, b, a, metric).verdict
                there = [e.cells.get(metric.key) for e in (a, b)]
                assert bool(found.why) == any(c is None or c.n < 3 or not c.interval for c in there)
                if found.why:
                    continue
                one, other = (c.interval for c in there)
                assert (found.verdict != UNDECIDED) == (not one.overlaps(other)) == (found.p <= 0.05)
                apart += found.verdict != UNDECIDED
                if metric.share:
                    first, second = (board.rank(e, metric) for e in (a, b))
                    if first.worst < second.best:
                        assert found.verdict == "higher"
            ranks_ = [r for e in board.entries if (r := board.rank(e, metric))]
            if ranks_:
                # Each pair that is apart takes one rank from the better and one from the worse.
                assert sum(r.best - 1 for r in ranks_) == sum(r.of - r.worst for r in ranks_) == apart
                assert told_apart(board, metric)[0] == apart
    for board in made:
        console = Console(width=300, record=True, file=io.StringIO())
        console.print(render([board]))
        said = console.export_text()
        if (clean := board.headline("clean")) and board.tested(clean):
            for entry in board.entries:
                rank = board.rank(entry, clean)
                cells = entry.cells.get("clean")
                text = f"{rank.text if rank else '–'} {entry.label}"
                line = next(x for x in said.splitlines() if x.strip().startswith(f"{text} "))
                assert cells is None or cells.display in line


def committed(suite):
    return boards(Store(RESULTS).rows([suite]))


@pytest.mark.parametrize(("flags", "placed"), [([], ("cpu", "float32")), (["--together"], ("", ""))])
def test_the_command_averages_over_devices_only_where_the_reader_asks(flags, placed):
    shown = CliRunner().invoke(app, ["board", "digits", "--json", *flags])
    assert [(b["device_class"], b["precision"]) for b in json.loads(shown.stdout)] == [placed]


def test_nothing_is_cut_off_in_a_terminal_of_80_columns():
    def with_every_weight_norm(trial):
        outcome = synthetic.outcome(trial)
        raw = [r for r in outcome.curves if r.measure == "weight-norm.raw"]
        kinds = [f"weight-norm.{kind}{part}" for kind in ("raw", "effective") for part in ("", "-invariant", "-other")]
        return outcome.model_copy(
            update={"curves": (*outcome.curves, *(r.model_copy(update={"measure": k}) for k in kinds[1:] for r in raw))}
        )

    made = boards(
        synthetic.rows([*synthetic.grid(["bn", "gn", "ws+gn"], seeds=3, weight_decays=[0])], with_every_weight_norm)
    )
    assert len(made[0].of("weight-norm")) >= 6
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(made))
    text = console.export_text()
    assert "growth" in text
    assert "…" not in text


def test_the_terminal_shows_every_entry_rank_and_failure():
    trials = [*synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]), synthetic.trial("[red]x[/red]", 0)]
    made = boards(
        synthetic.rows(trials, lambda t: synthetic.failure(t) if "x" in t.norm_label else synthetic.outcome(t))
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(made))
    text = console.export_text()
    assert "digits · resnet18 · batch 64\n" in text
    assert "all 360 test images" in text
    for word in ("bn", "gn", "[red]x[/red]", "±", "diverged: loss became non-finite", "0.0625", "growth"):
        assert word in text
