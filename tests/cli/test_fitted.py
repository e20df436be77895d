"""Tables at any width: no number loses a digit, no word a letter."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.cli.say import WIDE, Screen, screen
from normbench.runner.fitted import Column, Fitted, number

from tests.cli.conftest import Bench

NUMBER = re.compile(r"\d[\d.,]*")
#: Every command that shows a table, and `doctor`.
TABLES = {
    "board": ("board", "digits"),
    "tuned board": ("board", "digits-tuned"),
    "table": ("table", "digits"),
    "compare": ("compare", "bn", "gn", "--suite", "digits", "--metric", "clean", "--metric", "growth, raw"),
    "norms": ("norms",),
    "attacks": ("attacks",),
    "measures": ("measures",),
    "plan": ("plan", "digits-tuned"),
    "status": ("status", "digits-tuned"),
    "audit": ("audit", "resnet18", "ws+gn", "--width", "0.125", "--image-size", "16"),
    "doctor": ("doctor",),
}


def console_of(width: int) -> Screen:
    return Screen(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False, color_system=None)


def printed(table: Fitted, width: int) -> str:
    console = console_of(width)
    with console.capture() as shown:
        console.print(table)
    return shown.get()


WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
ROWS = st.lists(
    st.tuples(st.lists(WORD, min_size=1, max_size=4).map(" ".join), *[st.floats(-1e6, 1e6)] * 5), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(30, 200))
def test_every_cell_is_there_at_every_width(rows: list[tuple[str, *tuple[float, ...]]], width: int) -> None:
    heads = ["one", "two\nlines", "three", "four", "five"]
    table = Fitted([Column("Method", key=True), *map(number, heads)])
    for name, *values in rows:
        table.add_row(name, *(f"{v:.4f}" for v in values))
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for name, *values in rows:
        for wanted in (*name.split(), *(f"{v:.4f}" for v in values)):
            assert wanted in words
    assert {word for head in heads for word in head.split()} <= set(words)


def test_sentences_go_on_in_the_next_line_and_long_words_are_not_lost() -> None:
    table = Fitted([Column("a", key=True), Column("b", words=True)])
    table.add_row("x" * 90, "some words and arXiv:1502.03167 and " + "y" * 50)
    text = printed(table, 40)
    assert text.count("x") == 90
    assert text.count("y") == 50
    assert "arXiv:1502.03167" in text


def test_dropped_columns_are_named() -> None:
    table = Fitted([Column("running", key=True), number("loss"), number("images\n/ s")], drop=True)
    table.add_row("bn", "1.234567890", "123,456,789,012")
    assert printed(table, 80).split() == ["images", "running", "loss", "/", "s", "bn", "1.234567890", "123,456,789,012"]
    assert " ".join(printed(table, 24).split()).endswith("too narrow for: images / s")
    assert "1.234567890" in printed(table, 24)


@pytest.mark.parametrize("arguments", TABLES.values(), ids=TABLES)
def test_no_number_loses_a_digit(shown: Bench, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command prints is printed on paper of four widths."""
    paper = {width: console_of(width) for width in (60, 80, 200, WIDE)}
    plain = Screen.print

    def on_all(self: Screen, *what: Any, **how: Any) -> None:
        for console in paper.values():
            plain(console, *what, **how)

    monkeypatch.setattr(Screen, "print", on_all)
    shown(*arguments)
    texts = {width: console.file.getvalue() for width, console in paper.items()}  # type: ignore[attr-defined]
    numbers = set(NUMBER.findall(texts[WIDE]))
    assert numbers
    for width, text in texts.items():
        assert "…" not in text
        assert set(NUMBER.findall(text)) == numbers, width


def test_the_width_is_that_of_columns_and_without_a_terminal_none(shown: Bench) -> None:
    assert max(map(len, shown("norms", COLUMNS="60").splitlines())) == 60
    assert max(map(len, shown("norms").splitlines())) > 120
    assert screen().width == WIDE
