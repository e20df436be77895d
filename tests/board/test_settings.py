"""Settings on boards: the learning rate is always a column, and so is all else in which methods differ; a tuned value
at the end of those tried is marked; numbers sort as numbers.
"""

from __future__ import annotations

import html
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.board import EDGE, Board, boards, boards_json
from normbench.board.tuning import Choices, sweeps
from normbench.cli.main import app
from normbench.cli.terminal import render
from normbench.pages import boards_pages, build
from normbench.spec.text import natural
from normbench.spec.trial import Trial
from normbench.store.schema import to_row
from normbench.store.store import Store
from normbench.suite import expand, load
from rich.console import Console
from typer.testing import CliRunner

from tests.site import synthetic
from tests.site.conftest import pages_of

RATES = (0.03, 0.1, 0.3)


def row(trial: Trial, suite: str = "demo") -> dict[str, Any]:
    return to_row(suite, trial, synthetic.identity(trial), synthetic.outcome(trial))


def tuned(chosen: dict[str, float], suite: str = "demo", tried: tuple[float, ...] = RATES) -> list[dict[str, Any]]:
    """Rows of a suite that tuned: candidates of each method at all rates, and final trials at the chosen one."""
    made = []
    for norm, best in chosen.items():
        for lr in tried:
            trial = synthetic.candidate(synthetic.trial(norm), lr)
            outcome = synthetic.tried(trial, 0.9 if lr == best else 0.5)
            made.append(to_row(suite, trial, synthetic.identity(trial), outcome))
        made += [row(synthetic.trial(norm, seed, lr=best), suite) for seed in range(3)]
    return made


def board(rows: list[dict[str, Any]]) -> Board:
    (made,) = boards(rows, sweeps=sweeps(rows))
    return made


def shown(made: Board) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render([made]))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def chosen() -> Board:
    return board(tuned({"bn": 0.3, "gn": 0.1, "wn": 0.03}))


def test_the_rate_is_a_column_even_where_all_have_the_same() -> None:
    made = board([row(t) for t in synthetic.grid(["bn", "gn"], 3, [0])])
    assert [e.settings for e in made.entries] == [(("lr", "0.1"),)] * 2
    for table in re.split("Robust|Weight norm", shown(made))[:3]:
        assert re.search(r"Method +lr ", table)


def test_whatever_differs_is_a_column() -> None:
    trials = [
        synthetic.trial("bn", lr=0.1),
        synthetic.trial("gn", lr=0.1, weight_decay=5e-4, clip_grad=1.0),
        synthetic.trial("ln", lr=0.1, optimizer="adamw"),
    ]
    made = board([row(t) for t in trials])
    found = {e.norm: dict(e.settings) for e in made.entries}
    assert found["bn"] == {"lr": "0.1", "wd": "0", "clip grad": "–", "optimizer": "sgd"}
    assert found["gn"] == {"lr": "0.1", "wd": "0.0005", "clip grad": "1", "optimizer": "sgd"}
    assert found["ln"]["optimizer"] == "adamw"
    heads = next(line for line in shown(made).splitlines() if "Method" in line)
    assert all(name in heads for name in found["bn"])
    (told,) = boards_json([made])
    assert {e["norm"]: e["settings"] for e in told["entries"]} == found


def test_a_setting_that_a_specification_leaves_out_has_its_default() -> None:
    trials = [synthetic.trial("bn"), synthetic.trial("gn", ema=0.9, schedule="step", milestones=(0.25,))]
    found = {e.norm: dict(e.settings) for e in board([row(t) for t in trials]).entries}
    assert found["bn"] == {"lr": "0.1", "schedule": "cosine", "milestones": "0.5;0.75", "ema": "–"}
    assert found["gn"] == {"lr": "0.1", "schedule": "step", "milestones": "0.25", "ema": "0.9"}
    assert "nesterov" not in dict(board([row(t) for t in trials]).shared)


def test_a_choice_of_what_specifications_leave_out() -> None:
    made = []
    for ema in (None, 0.9, 0.99):
        trial = synthetic.candidate(synthetic.trial("bn", ema=ema), 0.1)
        outcome = synthetic.tried(trial, 0.5 + (ema or 0) / 10)
        outcome = outcome.model_copy(update={"provenance": {"tuned": ["ema"]}})
        made.append(to_row("demo", trial, synthetic.identity(trial), outcome))
    (sweep,) = sweeps(made)
    assert sweep.chosen is not None
    assert sweep.chosen.settings == (("ema", 0.99),)
    assert {t.settings for t in sweep.tried} == {(("ema", value),) for value in (None, 0.9, 0.99)}


def test_a_choice_at_an_end_is_marked_in_the_terminal_and_in_json(chosen: Board) -> None:
    assert {e.norm: dict(e.tuned) for e in chosen.entries} == {
        "bn": {"lr": "largest"},
        "gn": {"lr": ""},
        "wn": {"lr": "smallest"},
    }
    text = shown(chosen)
    accuracy = text.partition("Robust accuracy")[0]
    cells = {
        norm: next(line for line in accuracy.splitlines() if f" {norm} " in line).split() for norm in ("bn", "gn", "wn")
    }
    assert [cells[n][2] for n in ("bn", "gn", "wn")] == ["0.3*", "0.1", "0.03*"]
    assert EDGE in " ".join(text.split())
    (told,) = boards_json([chosen])
    assert {e["norm"]: e["tuned"] for e in told["entries"]}["wn"] == {"lr": "smallest"}


def test_what_nobody_tuned_has_no_mark() -> None:
    rows = tuned({"bn": 0.3})
    made = board([*rows, *(row(synthetic.trial("gn", s, lr=0.3)) for s in range(3))])
    assert {e.norm: dict(e.tuned) for e in made.entries} == {"bn": {"lr": "largest"}, "gn": {}}
    other = board([*rows[:3], *(row(synthetic.trial("bn", s, lr=0.3), "other") for s in range(3))])
    assert [dict(e.tuned) for e in other.entries] == [{}], "another suite's search chose nothing here"
    untried = board([*rows[:3], *(row(synthetic.trial("bn", s, lr=0.7)) for s in range(3))])
    assert [dict(e.tuned) for e in untried.entries] == [{}]
    assert "tuning tried" not in " ".join(shown(other).split())


def test_ends_are_those_of_each_setting_and_zero_is_none() -> None:
    made = []
    for lr, decay in itertools.product((0.1, 0.3), (0.0, 1e-4, 5e-4)):
        base = synthetic.trial("bn", weight_decay=decay)
        trial = synthetic.candidate(base, lr)
        outcome = synthetic.tried(trial, 0.5).model_copy(update={"provenance": {"tuned": ["lr", "weight_decay"]}})
        made.append(to_row("demo", trial, synthetic.identity(trial), outcome))

    def ends(lr: float, decay: float) -> dict[str, str]:
        return Choices(sweeps(made)).of(
            {"demo"}, json.loads(row(synthetic.trial("bn", lr=lr, weight_decay=decay))["spec"])
        )

    assert ends(0.1, 5e-4) == {"lr": "smallest", "weight_decay": "largest"}
    assert ends(0.3, 1e-4) == {"lr": "largest", "weight_decay": ""}
    assert ends(0.3, 0.0) == {"lr": "largest", "weight_decay": ""}, "there is nothing below zero"
    assert ends(0.2, 0.0) == {}


def test_pages_have_the_columns_and_the_marks(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for norm, best in {"bn": 0.3, "gn": 0.1}.items():
        for lr in RATES:
            tried = synthetic.candidate(synthetic.trial(norm), lr)
            store.write("demo", tried, synthetic.identity(tried), synthetic.tried(tried, 0.9 if lr == best else 0.5))
        for seed, decay in itertools.product(range(3), (0.0, 5e-4)):
            trial = synthetic.trial(norm, seed, lr=best, weight_decay=decay)
            store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial))
    out = pages_of(store, tmp_path / "site", boards_pages.write)
    for topic in ("accuracy", "robustness", "weight-norm"):
        page = (out / f"{topic}.html").read_text()
        heads = [re.sub("<[^>]+>", "", h) for h in re.findall(r'<th scope="col" class="n setting".*?</th>', page)]
        assert heads == ["Learning rate", "Weight decay"]
        found = {}
        for part in page.split("<tr class=")[1:]:
            label = html.unescape(re.search("<bdi>(.*?)</bdi>", part)[1])  # type: ignore[index]
            cells = re.findall(r'<td class="n setting">(.*?)</td>', part)
            found[label] = [html.unescape(re.sub("<[^>]+>", "", c)) for c in cells]
        assert found["bn · wd 0"] == ["0.3* the largest that tuning tried", "0"]
        assert found["bn · wd 0.0005"] == ["0.3", "0.0005"], "the search was for another weight decay"
        assert found["gn · wd 0"] == ["0.1", "0"]
        assert html.unescape(page).count(EDGE) == 1


# ---- numbers sort as numbers ----

BATCHES = (128, 8, 1024, 16, 64)


@given(st.lists(st.tuples(st.sampled_from(["batch ", "x, width ×", "[size="]), st.integers(0, 10**6)), min_size=1))
def test_numbers_within_texts_sort_as_numbers(parts: list[tuple[str, int]]) -> None:
    texts = [f"{word}{number}" for word, number in parts]
    assert sorted(texts, key=natural) == [f"{w}{n}" for w, n in sorted(parts)]


def test_natural_order_by_hand() -> None:
    texts = ["bn", "bn · wd 0.0005", "bn · wd 1e-05", "gn[size=16]", "gn[size=4]", "resnet101", "resnet18"]
    assert sorted(texts, key=natural) == [
        *("bn", "bn · wd 1e-05", "bn · wd 0.0005", "gn[size=4]", "gn[size=16]"),
        *("resnet101", "resnet18"),  # a name with digits in it is a name
    ]


def test_batch_sizes_sort_as_numbers_everywhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for batch in BATCHES:
        trial = synthetic.trial("bn", batch_size=batch)
        store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial))
        for lr in (0.1, 0.3):
            tried = synthetic.candidate(trial, lr)
            store.write("demo", tried, synthetic.identity(tried), synthetic.tried(tried, 0.5))
    rows, ascending = list(store.rows()), sorted(BATCHES)
    assert [b.batch_size for b in boards(rows)] == ascending
    assert [s.label for s in sweeps(rows)] == [f"bn · batch size {b}" for b in ascending]
    out = build(store, tmp_path / "site").parent

    def found(page: str, pattern: str) -> list[int]:
        return [int(n) for n in re.findall(pattern, (out / page).read_text())]

    assert found("accuracy.html", r'<section data-batch="(\d+)"') == ascending
    assert found("accuracy.html", r'<li><a href="#[^"]*">batch (\d+)</a>') == ascending
    assert found("tuning.html", r"<bdi>bn · batch size (\d+)</bdi>") == ascending
    assert list(dict.fromkeys(found("data.html", r"<bdi>digits · resnet18 · batch (\d+)</bdi>"))) == ascending
    assert list(dict.fromkeys(found("methods/bn.html", r"<td>width\xa0×1, batch\xa0(\d+)</td>"))) == ascending
    told = json.loads((out / "runs-data.js").read_text().removeprefix("NB.runs(").removesuffix(");\n"))
    (batch,) = [c for c in told["columns"] if c["key"] == "batch"]
    assert [int(batch["values"][i]) for i in batch["rows"]] == ascending


def test_the_command_prints_them_in_that_order(tmp_path: Path) -> None:
    suite = tmp_path / "demo.yaml"
    suite.write_text(
        "suite: demo\ndata: {dataset: digits}\nmodels: [resnet18]\nnorms: [bn, gn]\n"
        f"batch_sizes: {list(BATCHES)}\nseeds: 1\ntrain: {{epochs: 6}}\n"
    )
    store = Store(tmp_path / "results")
    for trial in expand(load(suite)):
        store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial))
    answer = CliRunner().invoke(app, ["board", str(suite), "--results", str(store.root)])
    assert answer.exit_code == 0, answer.output
    assert [int(n) for n in re.findall(r"resnet18 · batch (\d+)", answer.output)] == sorted(BATCHES)
    assert answer.output.count("Method  lr") == 3 * len(BATCHES)
