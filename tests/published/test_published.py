"""Printed numbers, and our own beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import html5lib
import normbench.attacks as attacks
import normbench.norms as norms
import pytest
from normbench.board import boards, t_interval
from normbench.cli.main import app
from normbench.pages import NAVIGATION, published_page
from normbench.pages.context import Context
from normbench.pages.results import load as load_results
from normbench.pages.writer import Writer, environment
from normbench.paths import shipped
from normbench.plan.origin import Origin
from normbench.published import TABLES, Beside, Printed, beside
from normbench.published.beside import NOT_RUN
from normbench.spec.outcome import AttackResult, Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.schema import to_row
from normbench.store.store import Store
from normbench.suite import expand, load, searches
from typer.testing import CliRunner

from tests.site import synthetic

BY_NAME = {t.name: t for t in TABLES}
#: As the sources print them.
FACTS = {
    ("galloway", "bn"): ["92.58 ± 0.08", "59.0 ± 0.3", "8.5 ± 0.3", "60.1 ± 0.3"],
    ("galloway", "fixup"): ["93.0 ± 0.2", "76.3 ± 0.7", "38.1 ± 0.7", "77.3 ± 0.2"],
    ("resnet", "bn"): ["91.25 to 92.6", "93.03 to 94.4"],
    ("tent", "bn"): [f"{100 - error:.1f}" for error in (43.5, 20.4, 18.6)],
    ("missing", "bn"): ["93.0"],
}


def finals(suite: str) -> list[Trial]:
    loaded = load(shipped("suites") / f"{suite}.yaml")
    return [t for s in searches(loaded) for _, t in s.finals] if loaded.tune else expand(loaded)


def outcome(of: Trial, accuracies: dict[str, float]) -> Outcome:
    """A finished trial of 1,000 images with these accuracies in %, by attack and size."""
    results = []
    for key, share in accuracies.items():
        if key != "clean":
            name, size = key.rsplit("@", 1)
            right = round(10 * share)
            results.append(
                AttackResult(
                    attack=name,
                    threat="noise",
                    size=float(size),
                    correct=right,
                    total=1000,
                    outcomes=b"\0" * 125,
                    seconds=1.0,
                    model_calls=1,
                )
            )
    base = synthetic.outcome(of)
    clean = {"clean_correct": round(10 * accuracies["clean"]), "test_total": 1000, "clean_outcomes": b"\0" * 125}
    return base.model_copy(update={**clean, "attacks": tuple(results)})


def row(suite: str, trial: Trial, made: Outcome) -> dict[str, Any]:
    return to_row(suite, trial, synthetic.identity(trial), made)


def of(name: str, rows: list[dict[str, Any]]) -> Beside:
    (found,) = beside(boards(rows), [BY_NAME[name]])
    return found


def test_what_is_printed() -> None:
    for (table, norm), numbers in FACTS.items():
        assert [n.text for r in BY_NAME[table].rows if r.norm == norm for n in r.numbers] == numbers
    assert Printed("clean", "clean").text == "nothing printed"


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_row_is_one_of_its_suite_and_measured_there(table: Any) -> None:
    planned = finals(table.suite)
    rows = {(t.model.name, t.norm_label) for t in planned}
    asked = {(r.model, r.norm) for r in table.rows if set(r.norm.split("+")) <= set(norms.registry.names())}
    assert asked == rows
    parts = [p for c in planned[0].attacks for p in attacks.registry.from_component(c).parts()]
    keys = ["clean", *(f"{p.setting}@{size:.9g}" for p in parts for size in p.sizes)]
    for number in (n for r in table.rows for n in r.numbers if n.metric and " under " not in n.metric):
        fitting = [key for key in keys if re.fullmatch(number.metric, key)]
        assert len(fitting) == (15 if "kinds" in number.what or "training set" in number.what else 1), number
    text = (shipped("suites") / f"{table.suite}.yaml").read_text()
    assert "# " in text.split("data:")[0].split("about:")[1], "its file says what is named and what is left open"


def test_a_row_is_not_run_until_it_is() -> None:
    nothing = of("resnet", [])
    assert [line.here for line in nothing.lines] == [NOT_RUN] * 2
    assert nothing.run == 0
    trials = [t for t in finals("published-resnet") if t.model.name == "resnet20"]
    values = [91.0, 91.5, 92.0, 91.2, 91.8]
    made = [row("published-resnet", t, outcome(t, {"clean": v})) for t, v in zip(trials, values, strict=True)]
    found = of("resnet", made)
    first, second = found.lines
    assert (second.here, second.difference, second.difference_text) == (NOT_RUN, None, "–")
    interval = t_interval(values)
    assert first.own is not None
    assert interval is not None
    assert first.own.value == pytest.approx(91.5)
    assert first.own.interval is not None
    assert (first.own.interval.low, first.own.interval.high) == pytest.approx((interval.low, interval.high))
    assert first.here == f"91.50 [{interval.low:.2f}, {interval.high:.2f}], 5 seeds"
    assert (first.difference, first.difference_text) == (0, "within")
    assert first.device == "cpu"
    two = of("resnet", made[:2]).lines[0]
    assert two.here == "91.25, 2 seeds"


def test_what_was_run_with_other_settings_is_another_table() -> None:
    (trial, *_) = finals("published-resnet")
    shorter = trial.model_copy(update={"train": trial.train.model_copy(update={"epochs": 2})})
    assert of("resnet", [row("published-resnet", shorter, outcome(shorter, {"clean": 50.0}))]).run == 0
    assert of("resnet", [row("elsewhere", trial, outcome(trial, {"clean": 91.0}))]).run == 0
    assert of("resnet", [row("published-resnet", trial, outcome(trial, {"clean": 91.0}))]).run == 1


def test_tuned_settings_are_free() -> None:
    trials = [t for t in finals("missing-table") if t.norm_label == "bn"]
    made = []
    for trial, rate in zip(trials, (0.1, 0.3, 0.1), strict=True):
        chosen = trial.model_copy(update={"train": trial.train.model_copy(update={"lr": rate})})
        made.append(row("missing-table", chosen, outcome(chosen, {"clean": 94.0})))
    lines = {line.row.norm: line for line in of("missing", made).lines}
    assert lines["bn"].own is not None
    assert len(lines["bn"].own.trials) == 2, "of several entries that which has most trials"
    assert lines["bn"].difference_text == "+1.00"
    assert lines["gn"].here == NOT_RUN


def test_differences_from_numbers_ranges_and_means() -> None:
    trials = finals("published-galloway")
    measured = {"clean": 92.0, "galloway[linf]@0.03": 10.0, "galloway[l2]@1.663": 60.0, "galloway[noise]@0.25": 59.0}
    made = [
        row("published-galloway", t, outcome(t, {k: v + 0.1 * i for k, v in measured.items()}))
        for i, t in enumerate(t for t in trials if t.norm_label == "bn")
    ]
    clean, noise, linf, l2 = of("galloway", made).lines[:4]
    assert [line.difference for line in (clean, noise, linf, l2)] == pytest.approx([-0.38, 0.2, 1.7, 0.1])
    assert linf.difference_text.startswith("+1.70 [+1.50, +1.90]")
    (trial, *_) = finals("published-tent")
    keys = [f"{p.setting}@5" for c in trial.attacks for p in attacks.registry.from_component(c).parts()]
    spread = {"clean": 95.0} | {key: float(40 + i) for i, key in enumerate(keys)}
    source, batch, tent = of("tent", [row("published-tent", trial, outcome(trial, spread))]).lines
    assert source.own is not None
    assert source.own.value == pytest.approx(47.0)
    assert batch.status == "not measured"
    assert tent.status == "not part of this benchmark"


def test_failures_are_said() -> None:
    good, bad, *_ = (t for t in finals("published-resnet") if t.model.name == "resnet20")
    rows = [
        row("published-resnet", good, outcome(good, {"clean": 91.0})),
        row("published-resnet", bad, synthetic.failure(bad, Status.DIVERGED)),
    ]
    assert of("resnet", rows).lines[0].status == "1 of 2 diverged"
    assert of("resnet", rows[1:]).lines[0].here == "1 of 1 diverged"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    kept = Store(tmp_path_factory.mktemp("published") / "results")
    for trial, value in zip(finals("published-small"), (50.0, 51.0, 52.0, 53.0, 54.0), strict=True):
        kept.write("published-small", trial, synthetic.identity(trial), outcome(trial, {"clean": value}))
    return kept


def test_the_command(store: Store) -> None:
    done = CliRunner().invoke(app, ["published", "--results", str(store.root)])
    assert done.exit_code == 0, done.output
    assert "suite published-small: 1 of 1 numbers run" in done.output
    assert "52.00 [50.04, 53.96], 5 seeds" in done.output
    assert done.output.count(NOT_RUN) == sum(len(r.numbers) for t in TABLES for r in t.rows) - 2
    assert all(text in done.output for t in TABLES for text in (t.title, t.setting, *t.differs))
    told = json.loads(CliRunner().invoke(app, ["published", "--json", "--results", str(store.root)]).output)
    assert [t["name"] for t in told] == [t.name for t in TABLES]
    (small,) = told[-1]["rows"]
    assert (small["own"], small["seeds"], small["status"]) == (pytest.approx(52.0), 5, "")
    assert (small["low"], small["high"]) == pytest.approx((50.04, 53.96), abs=0.01)


def test_the_page(store: Store, tmp_path: Path) -> None:
    site = {"nav": NAVIGATION, "trials": "5", "version": "", "date": "", "problems": 0, "normbench": ""}
    site |= {"origin": Origin(), "icon": "", "card": "", "about": []}
    context = Context(load_results(store, None), Writer(tmp_path, {"site": site}, environment()), None)  # type: ignore[arg-type]
    published_page.write(context)
    text = (tmp_path / "published.html").read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    assert '<a href="published.html" aria-current="page">' in text
    total = sum(len(r.numbers) for t in TABLES for r in t.rows)
    assert f"1 of {total} numbers are run" in text
    assert "52.00 [50.04, 53.96], 5 seeds" in text
    assert text.count(f"<em>{NOT_RUN}</em>") == total - 2
    for table in TABLES:
        assert f'id="{table.name}"' in text
    links = re.findall(r'href="(trials/[^"]+)"', text)
    assert sorted(links) == sorted(context.trial_href(t.trial_id) for t in finals("published-small"))
