"""Two sides against each other, by the rule of the board that they stand on."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from normbench.board import CLEAN, boards, compare
from normbench.board.pairing import differing, named, near, pairs, versus, versus_json
from normbench.errors import BenchError
from normbench.spec.trial import Component
from normbench.store.schema import to_row
from normbench.store.store import Store
from normbench.suite import expand, load

from tests.cli.conftest import Bench
from tests.site import synthetic

DECAYS = (0.0, 5e-4)


def made(*norms: str, decays: tuple[float, ...] = DECAYS, **train: object) -> list:
    trials = [
        synthetic.trial(n, s, weight_decay=d, batch_size=b, **train)
        for n in norms
        for s in range(3)
        for d in decays
        for b in (16, 32)
    ]
    return [to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in trials]


def test_entries_of_like_settings_are_paired_and_judged_by_their_board() -> None:
    found = boards(made("bn", "gn", "wn"))
    answers = versus(found, "bn", "gn")
    assert len(answers) == len(found) * len(DECAYS) == 4
    for board, a, b, comparisons in answers:
        assert (a.norm, b.norm) == ("bn", "gn")
        assert differing(a, b) == {}
        assert [c.metric for c in comparisons] == [board.headline("clean"), board.headline("robust")]
        assert comparisons == [compare(board, a, b, c.metric) for c in comparisons]


def test_settings_that_cannot_be_the_same_are_told() -> None:
    rows = made("bn", decays=(0.0,)) + made("gn", decays=(5e-4,))
    ((a, b),) = pairs(boards(rows)[0], "bn", "gn")
    assert differing(a, b) == {"wd": ("0", "0.0005")}


def test_a_method_against_itself_is_its_settings_against_each_other() -> None:
    ((a, b),) = pairs(boards(made("bn", "gn"))[0], "bn", "bn")
    assert {dict(a.settings)["wd"], dict(b.settings)["wd"]} == {"0", "0.0005"}


def test_sides_by_trial_label_and_family() -> None:
    (board, _) = boards(made("bn", "gn"))
    a, b = board.entries[0], board.entries[-1]
    for one in (a.id, a.label, a.runs[0].trial_id):
        ((board_found, x, y, _),) = versus([board], one, b.runs[1].trial_id)
        assert (board_found, x.id, y.id) == (board, a.id, b.id)


@pytest.mark.parametrize(
    ("one", "other", "metrics", "message"),
    [
        ("bn", "gm", (), "no board has 'gm'; did you mean 'gn'"),
        ("bn", "gn", ("cleen",), "no board has the metric 'cleen'; did you mean 'clean'"),
        ("bn · wd 0", "bn · wd 0", (), "are the same entries"),
    ],
)
def test_what_is_not_there_is_named(one: str, other: str, metrics: tuple[str, ...], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        versus(boards(made("bn", "gn")), one, other, metrics)


@pytest.mark.parametrize(
    ("text", "known", "told"),
    [
        ("x", [], "there are none"),
        ("zzz", ["b", "a", "b"], "there are a, b"),
        ("zzz", [f"{i:02}" for i in range(30)], f"there are {', '.join(f'{i:02}' for i in range(30))}"),
        ("zzz", [f"{i:02}" for i in range(31)], f"there are {', '.join(f'{i:02}' for i in range(30))}, ..."),
        ("clean1", ["clean2", "clean3", "robust"], "did you mean 'clean2' or 'clean3'?"),
    ],
)
def test_what_there_is_is_told(text: str, known: list[str], told: str) -> None:
    assert near(text, known) == f"; {told}"


def test_methods_that_never_met_are_told_where_they_are() -> None:
    other = [synthetic.trial("wn", s, width=2.0) for s in range(3)]
    rows = made("bn") + [to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in other]
    with pytest.raises(
        BenchError, match=r"no board has both: 'bn' is on [^,;]*batch 16, [^,;]*batch 32; 'wn' is on [^,;]*×2"
    ):
        versus(boards(rows), "bn", "wn")


def test_a_side_is_all_of_a_method_or_one_of_its_parameters() -> None:
    """At two weight decays each, so that no label is that of the method alone."""
    ws, four, eight = (
        Component(name=name, params=params)
        for name, params in (("ws", {}), ("gn", {"groups": 4}), ("gn", {"groups": 8}))
    )
    methods = {"gn[groups=4]": (four,), "gn[groups=8]": (eight,), "ws+gn[groups=4]": (ws, four)}
    trials = [
        synthetic.trial("gn", weight_decay=decay).model_copy(update={"norm": parts, "norm_label": name})
        for name, parts in methods.items()
        for decay in DECAYS
    ]
    (board,) = boards([to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in trials])
    for text, norms in (
        ("gn", ["gn[groups=4]", "gn[groups=8]"]),
        ("gn[groups=8]", ["gn[groups=8]"]),
        ("ws+gn", ["ws+gn[groups=4]"]),
        ("ws", []),
    ):
        assert [e.norm for e in named(board, text)] == [n for n in norms for _ in DECAYS]


def test_what_was_tuned_for_both_is_no_difference() -> None:
    (board,) = boards([r for r in made("bn", decays=(0.0,)) + made("gn", decays=(1e-3,)) if r["batch_size"] == 16])
    a, b = board.entries
    for one, other in itertools.product(({}, {"wd": ""}), repeat=2):
        found = differing(replace(a, tuned=one), replace(b, tuned=other))
        assert found == ({} if one and other else {"wd": ("0", "0.001")})


@pytest.mark.parametrize("name", ["clean", "Clean Accuracy"])
def test_metrics_by_key_and_label(name: str) -> None:
    for _, _, _, comparisons in versus(boards(made("bn", "gn")), "bn", "gn", [name]):
        assert [c.metric for c in comparisons] == [CLEAN]


def test_json_of_what_is_not_compared_has_no_numbers() -> None:
    trials = [synthetic.trial("bn", s) for s in range(3)] + [synthetic.trial("gn")]
    rows = [
        to_row("demo", t, synthetic.identity(t), (synthetic.outcome if t.norm_label == "bn" else synthetic.failure)(t))
        for t in trials
    ]
    found = boards(rows)
    for one, other in (("bn", "gn"), ("gn", "bn")):
        (told,) = versus_json(versus(found, one, other))
        clean = told["metrics"]["clean"]
        assert clean["verdict"] == "diverged"
        assert (clean["a"] is None, clean["b"] is None) == (one == "gn", other == "gn")
        assert clean["difference"] is clean["low"] is clean["high"] is clean["p"] is None


def test_json_holds_both_sides_and_each_seed() -> None:
    rows = made("bn") + made("gn", decays=(1e-3,))
    found = versus(boards(rows), "bn", "gn", ["all"])
    for (board, a, b, comparisons), told in zip(found, versus_json(found), strict=True):
        for side, entry in (("a", a), ("b", b)):
            assert told.pop(side) == {"entry": entry.id, "label": entry.label, "settings": dict(entry.settings)}
        metrics = told.pop("metrics")
        different = {"wd": [dict(a.settings)["wd"], "0.001"]}
        assert told == {"board": board.id, "title": board.title, "suites": ["demo"], "differing": different}
        assert list(metrics) == [m.key for m in board.metrics]
        for made_, said in zip(comparisons, metrics.values(), strict=True):
            assert said.pop("seeds") == {str(p.seed): [p.a, p.b] for p in made_.pairs}
            assert said == {
                "label": made_.metric.label,
                "a": a.cells[made_.metric.key].value,
                "b": b.cells[made_.metric.key].value,
                "difference": made_.mean,
                "low": made_.interval.low,
                "high": made_.interval.high,
                "p": made_.p,
                "verdict": made_.verdict,
            }


PLANNED = """
suite: asked
data: {dataset: digits, image_size: 8}
models: resnet18
norms: [bn, "gn[groups=4]", wn]
batch_sizes: [32]
seeds: 3
train: {epochs: 1, lr: 0.05}
"""


@pytest.mark.parametrize("chosen", [(), ("--suite", "asked"), ("--suite", "asked.yaml")])
def test_what_is_planned_and_was_not_run_is_told_with_what_runs_it(
    chosen: tuple[str, ...], shown: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asked.yaml").write_text(PLANNED, encoding="utf-8")
    store = Store(tmp_path / "r")
    for trial in (t for t in expand(load("asked.yaml")) if t.norm_label == "bn"):
        store.write("asked", trial, synthetic.identity(trial), synthetic.outcome(trial))
    runs = "`bench run asked.yaml --only 'norm=gn[groups=4]' --results r` runs what is missing"
    with pytest.raises(BenchError) as error:
        shown("compare", "bn", "gn", "--results", "r", *chosen)
    assert str(error.value) == f"'gn' has no results in suite asked, which plans 3 trials of it: {runs}"
    with pytest.raises(BenchError, match="'gn' and 'wn' have no results in suite asked, which plans 6 trials of them"):
        shown("compare", "gn", "wn", "--results", "r", *chosen)
    with pytest.raises(BenchError, match="no board has 'bnn'; did you mean 'bn'"):
        shown("compare", "bn", "bnn", "--results", "r", *chosen)


def test_a_side_whose_code_has_changed_is_told(shown: Bench, tmp_path: Path) -> None:
    store = Store(tmp_path / "r")
    for trial in synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]):
        changed = {"protocol": 0} if trial.norm_label == "gn" and trial.seed == 1 else {}
        store.write("demo", trial, synthetic.identity(trial) | changed, synthetic.outcome(trial))
    told = "gn is 1 of 3 stale: the code that made a result has changed since\n"
    assert told in shown("compare", "bn", "gn", "--results", str(tmp_path / "r"))


def test_a_suite_that_was_never_run_is_told_likewise(
    shown: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(tmp_path / "r").root.mkdir()  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    Path("asked.yaml").write_text(PLANNED, encoding="utf-8")
    with pytest.raises(
        BenchError, match=r"'bn' and 'gn' have no results in suite asked, .*`bench run asked.yaml --only"
    ):
        shown("compare", "bn", "gn", "--results", "r", "--suite", "asked.yaml")
    with pytest.raises(BenchError, match=r"no results of suite digits in .*; `bench run digits` makes those of digits"):
        shown("site", "--results", "r", "--only", "digits")


def test_the_terminal_and_json_say_the_same(shown: Bench) -> None:
    (answer,) = json.loads(shown("compare", "bn", "none", "--suite", "digits", "--json"))
    clean = answer["metrics"]["clean"]
    assert clean["verdict"] == "higher"
    assert clean["low"] > 0
    assert clean["p"] <= 0.05
    assert answer["differing"] == {"lr": ["0.1", "0.05"]}
    text = shown("compare", "bn", "none", "--suite", "digits")
    assert "bn minus none (they differ in lr 0.1 against 0.05 as well)" in text
    line = next(line for line in text.splitlines() if line.startswith("Clean accuracy"))
    assert line.split()[3:8] == [
        f"{100 * clean['a']:.2f}",
        f"{100 * clean['b']:.2f}",
        *(f"{100 * clean[k]:+.2f}" for k in ("difference", "low", "high")),
    ]
    assert "A is higher" in line
    with pytest.raises(BenchError, match="no results of suite nosuite"):
        shown("compare", "bn", "gn", "--suite", "nosuite")
