"""Words and characters as a terminal shows them. It loads nothing: every command begins with it, `--help` too."""

from __future__ import annotations

import re


def counted(number: int, noun: str) -> str:
    """`1 trial`, `1,200 trials`, `2 tries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


#: Characters of one text that are shown; of longer ones, the beginning.
MOST = 20_000
#: What a terminal obeys in place of showing it: controls but tab and newline, marks that turn the direction of writing,
#: halves of characters.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """A text in which what a terminal would obey is written out, as `\\x1b`; cut where it is very long."""
    cut = text if len(text) <= MOST else f"{text[:MOST]}... ({len(text):,} characters)"
    return OBEYED.sub(_written, cut)


def _written(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
