"""What a board says it is about: from its specification and its data, with nothing guessed."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import normbench
import pytest
from normbench.board import Board, badges, boards, boards_json
from normbench.board.reading import rows_of
from normbench.cli.terminal import render
from normbench.pages import boards_pages
from normbench.spec.about import About, Images
from normbench.spec.trial import Trial
from normbench.store import about
from normbench.store.schema import to_row
from normbench.store.store import Store
from rich.console import Console

from tests.site import synthetic
from tests.site.conftest import fill, pages_of

RESULTS = Store(Path(normbench.__file__).parents[2] / "results")
TENTH = Images(train=50_000, test=3600, side=32)


def changed(of: Trial, **parts: dict[str, Any]) -> Trial:
    """A trial whose data, model or training is another; ids are computed anew."""
    fresh = {k: getattr(of, k) for k in Trial.model_fields}
    return Trial(**fresh | {k: fresh[k].model_copy(update=v) for k, v in parts.items()})


def board(*trials: Trial, images: Images | None = None, failed: bool = False) -> Board:
    made = [
        to_row("demo", t, synthetic.identity(t), synthetic.failure(t) if failed else synthetic.outcome(t))
        for t in trials
    ]
    contents = {r["content"] for r in made}
    (found,) = boards(made, abouts={"demo": About(datasets=dict.fromkeys(contents, images) if images else {})})
    return found


def texts(of: Board) -> dict[str, str]:
    return {b.kind: b.text for b in badges(of)}


def test_badges_come_from_the_specification_the_rows_and_the_dataset() -> None:
    trial = synthetic.trial()
    assert texts(board(trial)) == {
        "layers": "3 weight layers",  # of the audit in the row
        "parameters": "1,000 parameters",
        "test": "all 360 test images",
        "epochs": "6 epochs",
        "seeds": "1 seed",
        "device": "cpu, float32",
    }, "neither the side nor the number of training images is known, so nothing is said of them"
    known = texts(board(trial, images=Images(train=1437, test=360, side=8)))
    assert (known["side"], known["train"]) == ("8×8 pixels", "all 1,437 training images")
    part = changed(trial, data={"train_examples": 1000, "test_examples": 360, "image_size": 16, "validation": 0.2})
    assert texts(board(part, images=TENTH)) | {"epochs": "", "seeds": "", "device": ""} == {
        "layers": "3 weight layers",
        "parameters": "1,000 parameters",
        "side": "16×16 pixels",
        "test": "360 of 3,600 test images",
        "train": "800 of 50,000 training images",
        "epochs": "",
        "seeds": "",
        "device": "",
    }
    assert texts(board(part))["test"] == "the first 360 test images", "of how many is not known"


def test_where_entries_differ_a_badge_spans_them() -> None:
    found = texts(board(synthetic.trial("bn"), *(synthetic.trial("gn", s) for s in range(2))))
    assert found["seeds"] == "1 to 2 seeds"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"train": {"epochs": 30}}, {"6 epochs", "30 epochs"}),
        ({"data": {"train_examples": 100}}, {"100 of 50,000 training images", "all 50,000 training images"}),
        ({"data": {"validation": 0.2}}, {"40,000 of 50,000 training images", "all 50,000 training images"}),
        ({"data": {"train_split": "extra"}}, None),
    ],
)
def test_unlike_budgets_are_boards_of_their_own(other: dict[str, dict[str, Any]], told: set[str] | None) -> None:
    """Also where one suite holds both. What may be chosen for each method keeps none apart."""
    base = synthetic.trial("bn")
    chosen = [("bn", {"lr": 0.5}), ("bn", {"weight_decay": 0.01}), ("gn", {"optimizer": "adamw"}), ("ln", {})]
    trials = [base, changed(base, **other), *(synthetic.trial(norm, **parts) for norm, parts in chosen)]
    rows = [to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in trials]
    made = boards(rows, abouts={"demo": About(datasets={rows[0]["content"]: TENTH})})
    assert sorted(len(b.entries) for b in made) == [1, 5]
    assert len({row["board"] for row in rows}) == 1, "the column is of the test, network and batch size alone"
    assert told is None or {b.title.rpartition(" · ")[2] for b in made} == told


def test_a_board_of_failures_says_what_is_known() -> None:
    assert texts(board(synthetic.trial(), failed=True)) == {
        "epochs": "6 epochs",
        "seeds": "1 seed",
        "device": "cpu, float32",
    }


def test_nothing_is_the_whole_test_set_unless_it_was() -> None:
    """Each board of the committed results, against the rows themselves."""
    made = boards(rows_of(RESULTS.table()), abouts=about.read_all(RESULTS))
    totals = {"cifar10-jpeg": 10_000, "digits": 360}
    whole = {b.title: texts(b)["test"].startswith("all ") for b in made}
    assert len(set(whole.values())) == 2
    assert whole == {b.title: b.test_total == totals[b.dataset] for b in made}
    (narrow,) = [b for b in made if "cifar-narrow" in b.suites]
    assert texts(narrow) == {
        "layers": "13 weight layers",
        "parameters": "308,826 parameters",
        "side": "16×16 pixels",
        "test": "1,000 of 10,000 test images",
        "train": "10,000 of 50,000 training images",
        "epochs": "10 epochs",
        "seeds": "3 seeds",
        "device": "cpu, float32",
    }
    (alone,) = boards(RESULTS.rows(["cifar-narrow"]), abouts=about.read_all(RESULTS))
    assert alone.title == "cifar10-jpeg 16×16 · resnet18, layers 1+1+1+1 · width ×0.25 · batch 128"
    assert "308,826 to 309,546 with the method in place" in next(
        b.note for b in badges(narrow) if b.kind == "parameters"
    )
    named_alone = replace(narrow, title=alone.title, slug=alone.slug)  # beside others its name tells them apart
    assert named_alone == alone, "row by row the same"


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ({}, "digits · resnet18 · batch 64"),
        ({"data": {"image_size": 16}}, "digits 16×16 · resnet18 · batch 64"),
        ({"model": {"width": 0.25}}, "digits · resnet18 · width ×0.25 · batch 64"),
        ({"model": {"stem": "native"}}, "digits · resnet18, native stem · batch 64"),
        ({"model": {"kwargs": {"layers": [1, 2]}}}, "digits · resnet18, layers 1+2 · batch 64"),
    ],
)
def test_titles_say_what_tells_networks_and_images_apart(parts: dict[str, dict[str, Any]], title: str) -> None:
    assert board(changed(synthetic.trial(), **parts)).title == title


def test_boards_of_one_title_are_told_apart_by_what_differs_and_by_no_more() -> None:
    trial = synthetic.trial()
    other = changed(trial, data={"test_examples": 360})
    fewer = Trial(**{k: getattr(trial, k) for k in Trial.model_fields} | {"attacks": trial.attacks[:1]})
    rows = [to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in (trial, other, fewer)]
    rows.append(rows[0] | {"device_class": "NVIDIA H200"})
    titles = {b.title for b in boards(rows[:2])}
    assert titles == {
        f"digits · resnet18 · batch 64 · {part}" for part in ("all 360 test images", "the first 360 test images")
    }
    made = boards([*rows[:3], rows[3] | {"trial_id": "0" * 16}])
    assert len({b.title.lower() for b in made}) == len({b.slug for b in made}) == len(made) == 4


def test_the_terminal_and_json_say_the_same() -> None:
    (made,) = boards(RESULTS.rows(["cifar-narrow"]), abouts=about.read_all(RESULTS))
    console = Console(file=io.StringIO(), width=250)
    console.print(render([made]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert " · ".join(b.text for b in badges(made)) in shown
    (told,) = boards_json([made])
    assert told["badges"] == texts(made)
    assert (told["layers"], told["parameters"], told["image_side"]) == ([13], [308826], 16)


# ---- pages and their filters ----


def grid(**spec: Any) -> list[Trial]:
    return list(synthetic.grid(["bn", "gn"], 1, [0], **spec))


def test_boards_on_one_page_differ_in_what_it_filters_by_and_in_nothing_else(tmp_path: Path) -> None:
    """What a page's filter offers, read from the pages themselves."""
    base = grid()
    trials = [
        *base,
        *grid(batch_size=8),
        *synthetic.grid(["bn", "gn"], 1, [5e-4], width=0.5),
        *grid(width=0.5, batch_size=8, epochs=2),  # another budget
        *grid(batch_size=16, lr=0.5),  # another rate, which nobody tuned
        *(changed(t, data={"train_examples": 500}) for t in grid(batch_size=32)),
        *(changed(t, data={"image_size": 16}) for t in base),
        *(changed(t, data={"test_examples": 100}) for t in base),
        *(changed(t, model={"kwargs": {"layers": [1, 1]}}) for t in base),
        *(changed(t, model={"stem": "native"}) for t in base),
    ]
    out = pages_of(fill(tmp_path / "results", trials), tmp_path / "site", boards_pages.write)
    pages = {p.name: p.read_text() for p in out.glob("accuracy*.html")}
    assert sorted(len(re.findall("<section ", page)) for page in pages.values()) == [1] * 7 + [3]
    (several,) = [page for page in pages.values() if page.count("<section ") == 3]
    assert set(re.findall(r'data-batch="(\d+)" data-width="([\d.]+)"', several)) == {
        ("64", "1"),
        ("8", "1"),
        ("64", "0.5"),
    }
    headings = [html.unescape(re.search("<h1>(.*)</h1>", page)[1]) for page in pages.values()]  # type: ignore[index]
    assert len(set(headings)) == len(pages)
    assert "Accuracy: digits · resnet18, layers 1+1" in headings
    assert any(h.startswith("Accuracy: digits · resnet18 · 2 epochs") for h in headings)


def test_what_was_tuned_for_each_board_keeps_no_boards_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for batch, chosen in ((8, 0.1), (64, 0.3)):
        trial = synthetic.trial("bn", batch_size=batch, lr=chosen)
        store.write("demo", trial, synthetic.identity(trial), synthetic.outcome(trial))
        for lr in (0.1, 0.3):
            tried = synthetic.candidate(trial, lr)
            store.write("demo", tried, synthetic.identity(tried), synthetic.tried(tried, 0.9 if lr == chosen else 0.5))
    out = pages_of(store, tmp_path / "site", boards_pages.write)
    assert len(list(out.glob("accuracy*.html"))) == 1
    assert (out / "accuracy.html").read_text().count("<section ") == 2


def test_a_page_prints_the_badges(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", grid())
    content = next(iter(store.rows(columns=["content"])))["content"]
    about.keep(store, "demo", About(datasets={content: Images(train=1437, test=360, side=8)}))
    page = (pages_of(store, tmp_path / "site", boards_pages.write) / "accuracy.html").read_text()
    listed = re.search(r'<ul class="badges".*?</ul>', page)[0]  # type: ignore[index]
    assert dict(re.findall(r'<li data-kind="(\w+)".*?><bdi>(.*?)</bdi></li>', listed)) == {
        "layers": "3 weight layers",
        "parameters": "1,000 parameters",
        "side": "8×8 pixels",
        "test": "all 360 test images",
        "train": "all 1,437 training images",
        "epochs": "6 epochs",
        "seeds": "1 seed",
        "device": "cpu, float32",
    }
    assert "whole test set" not in page
