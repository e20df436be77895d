"""What a person sees while trials run."""

from __future__ import annotations

import io
import re

import pytest
from normbench.cli.say import Screen
from normbench.plan.identity import Identity
from normbench.plan.plan import Item, State
from normbench.runner.progress import Lines, LiveTable, Names, display
from normbench.spec.trial import Trial

from tests.site import synthetic

RUNNING = {"phase": "train", "epoch": 1.5, "epochs": 6, "loss": 1.234, "accuracy": 0.567, "images_per_second": 12345.0}


def item(trial: Trial) -> Item:
    return Item(trial, Identity(trial.trial_id, None, {}, 1, {}), State.MISSING, (), None, None)


def items(**also: object) -> list[Item]:
    return [item(synthetic.trial(norm, seed, **also)) for norm in ("bn", "gn") for seed in range(2)]


def console(width: int, *, terminal: bool) -> Screen:
    return Screen(
        file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False, force_terminal=terminal, height=40
    )


def shown(screen: Screen) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.file.getvalue())  # type: ignore[attr-defined]


def test_what_trials_share_is_said_once() -> None:
    names = Names([i.trial for i in items(lr=0.05)])
    assert names.shared == "resnet18 · batch 64 · lr 0.05 · wd 0"
    assert [names.of(i) for i in items(lr=0.05)] == ["bn · seed 0", "bn · seed 1", "gn · seed 0", "gn · seed 1"]


def test_a_single_trial_and_twins_keep_their_titles() -> None:
    (alone, *_) = items()
    assert Names([alone.trial]).shared == ""
    assert Names([alone.trial]).of(alone) == alone.trial.title
    twins = [synthetic.trial(epochs=e) for e in (1, 2)]
    assert [Names(twins).of(item(t)) for t in twins] == [t.title for t in twins]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_live_table_cuts_no_number(width: int) -> None:
    screen = console(width, terminal=True)
    with display(screen, items()) as live:
        assert isinstance(live, LiveTable)
        for each in items():
            live.started(each)
            live.progress(each, RUNNING)
        screen.print(live._render())
    text = shown(screen)
    assert "all: resnet18 · batch 64" in text
    assert text.count("gn · seed 1") >= 1
    assert "resnet18" not in next(line for line in text.splitlines() if line.startswith("gn · seed 1"))
    assert "…" not in text
    for number in ("1.5/6", "1.234", "56.7%"):
        assert number in text
    assert "12,345" in text or "too narrow for: images/s" in text


def test_lines_say_what_is_shared_before_the_first() -> None:
    screen = console(200, terminal=False)
    with display(screen, items()) as lines:
        assert isinstance(lines, Lines)
        for each in items():
            lines.done(each, synthetic.outcome(each.trial))
    first, *rest = shown(screen).splitlines()
    assert first.startswith("all: resnet18 · batch 64")
    assert [line.split(": ")[0] for line in rest] == [
        "[1/4] bn · seed 0",
        "[2/4] bn · seed 1",
        "[3/4] gn · seed 0",
        "[4/4] gn · seed 1",
    ]
