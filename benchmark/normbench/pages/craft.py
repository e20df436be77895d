"""What every page carries besides its content: the icon, the card that messages show, the links of its foot."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from normbench.board import MIN_SEEDS, Board
from normbench.pages.context import Context
from normbench.pages.methods import key_of
from normbench.plan.origin import Origin

#: Two intervals that overlap and one that does not, in the colours of the light theme; readable on dark tabs too.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#0b5cad"/>'
    '<g stroke="#fff" stroke-width="2.5" stroke-linecap="round"><path d="M13 9h13M9 16h13M6 23h8"/></g>'
    '<g fill="#fff"><circle cx="19" cy="9" r="3.5"/><circle cx="15" cy="16" r="3.5"/><circle cx="10" cy="23" r="3.5"/>'
    "</g></svg>"
)
#: Methods that the card draws.
ROWS = 9
#: Left and right end of the intervals on the card.
_LEFT, _RIGHT = 430.0, 760.0
#: Where the card says nothing of results.
CARD = "NormBench: what does a normalization layer do to a network?"
_LICENCE = "https://spdx.org/licenses/MIT.html"


def icon() -> str:
    """The icon as an address that needs no file."""
    return f"data:image/svg+xml,{quote(ICON)}"


def about(origin: Origin, *, documented: bool) -> list[tuple[str, str]]:
    """Links of the foot: address and text."""
    found = [("search.html", "All pages"), ("glossary.html", "Glossary"), ("history.html", "What changed")]
    found += [("glossary.html#papers", "Papers"), ("data.html#cite", "Cite"), ("contribute.html", "Contribute")]
    found += [("docs/index.html", "Documentation")] if documented else []
    found += [(origin.repository, "Repository")] if origin.repository else []
    return [*found, (origin.file("LICENSE") or _LICENCE, "Licence: MIT")]


def card_text(board: Board | None) -> str:
    """What the card shows, in words."""
    if board is None or board.headline("clean") is None:
        return CARD
    return f"Clean accuracy of the methods on {board.title}, with intervals"


def write_card(context: Context) -> None:
    """Write assets/card.svg and assets/card.png: the headline board as a picture of 1200 by 630 pixels."""
    board = context.results.lead()
    context.writer.text(
        "assets/card.svg", context.writer.templates.get_template("card.svg").render(_card(context, board))
    )
    context.press.draw(Path(context.writer.folder) / "assets" / "card.svg")


def _card(context: Context, board: Board | None) -> dict[str, Any]:
    told = {"trials": f"{context.results.table.num_rows:,}", "methods": len(context.methods)}
    metric = board.headline("clean") if board else None
    if board is None or metric is None:
        return told | {"title": "", "rows": []}
    cells = [(e, e.cells[metric.key]) for e in board.standings(metric) if metric.key in e.cells][:ROWS]
    ends = [
        end
        for _, c in cells
        for end in ((c.interval.low, c.interval.high) if c.interval and c.n >= MIN_SEEDS else (c.value, c.value))
    ]
    low, high = min(ends), max(ends)

    def x(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * ((value - low) / (high - low) if high > low else 0.5), 1)

    rows = [
        {
            "label": e.label if len(e.label) <= 22 else f"{e.label[:21]}…",
            "css": context.methods[key_of(e)].css,
            "x": x(c.value),
            "low": x(c.interval.low) if c.interval else None,
            "high": x(c.interval.high) if c.interval else None,
        }
        for e, c in cells
    ]
    return told | {"title": board.title, "metric": metric.title, "rows": rows}
