"""Runs a command in a terminal and draws what it leaves there, as the picture of the README.

    python docs/tools/picture.py docs/first.svg .venv/bin/bench run suites/first.yaml --results my-results

Needs `pip install pyte`. The fonts are those of whoever looks at it: nothing is fetched.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pyte
from rich.color import Color
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.style import Style
from rich.text import Text

#: Columns and rows of the terminal; what scrolls away stays in the picture.
COLUMNS, ROWS = 100, 50
#: The part of rich's template that names fonts to be fetched.
_FONTS = re.compile(r"^    @font-face.*?(?=^    \.\{unique_id\}-matrix)", re.DOTALL | re.MULTILINE)


def record(command: list[str]) -> bytes:
    """Everything that a command writes to a terminal of our size. Raises `SystemExit` where it fails."""
    child, terminal = pty.fork()
    if not child:
        os.execvpe(command[0], command, os.environ | {"TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so that the other end has closed
            part = b""
        if not part:
            break
        os.write(1, part)
        written += part
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(code)
    return written


def screen(written: bytes) -> list[Text]:
    """The lines that stand in the terminal at the end, those that have scrolled away first."""
    shown = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000)
    pyte.ByteStream(shown).feed(written)
    lines = [*shown.history.top, *(shown.buffer[y] for y in range(ROWS))]
    texts = [_line(line) for line in lines]
    while texts and not texts[-1].plain:
        texts.pop()
    return texts


def _line(cells: Mapping[int, pyte.screens.Char]) -> Text:
    text = Text()
    for (fg, bold, italic), run in groupby((cells[x] for x in range(COLUMNS)), lambda c: (c.fg, c.bold, c.italics)):
        text.append("".join(cell.data for cell in run), Style(color=_colour(fg), bold=bold, italic=italic))
    text.rstrip()
    return text


def _colour(name: str) -> Color | None:
    """A colour by pyte's name or its six digits."""
    if name == "default":
        return None
    if len(name) == 6 and set(name) <= set("0123456789abcdef"):
        return Color.parse(f"#{name}")
    return Color.parse(name.replace("bright", "bright_").replace("brown", "yellow"))


def draw(lines: list[Text], title: str) -> str:
    """An SVG of the lines."""
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    console = Console(width=COLUMNS, record=True, file=nowhere, force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True)
    return console.export_svg(title=title, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    lines = screen(record(arguments.command))
    arguments.picture.write_text(draw(lines, " ".join([Path(arguments.command[0]).name, *arguments.command[1:]])))
