"""The one way to a terminal: text from outside (names, paths, exceptions, results) is shown as text. It can neither
style nor move what else stands there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from normbench.spec.shown import MOST, OBEYED, visible

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType

__all__ = ["MOST", "WIDE", "Screen", "in_json", "say", "screen", "shown", "visible", "working"]


def in_json(text: str) -> str:
    """JSON in which what a terminal would obey is written as JSON writes it; it can stand nowhere but in texts."""
    return OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: object = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a line."""
    print(visible(str(text)), file=file or sys.stdout, flush=flush)


def shown(text: object, style: str = "") -> Text:
    """A text of a table, made visible before its width is measured."""
    return Text(visible(str(text)), style)


class Screen(Console):
    """A console without markup. Whatever is rendered, also within tables and live displays, is made visible."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A plain text, likewise."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


#: Columns of an output that has no width, such as a file.
WIDE = 10_000


@contextmanager
def working(text: str) -> Iterator[None]:
    """On a terminal, what is going on meanwhile, on standard error; it goes when it is done."""
    console = Screen(markup=False, highlight=False, emoji=False, stderr=True)
    with console.status(shown(f"{text} ...")) if console.is_terminal else nullcontext():
        yield


def screen() -> Screen:
    """A console for what the program shows: as wide as the terminal, or as COLUMNS says; without either, a line is as
    long as it needs to be.
    """
    console = Screen(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console
