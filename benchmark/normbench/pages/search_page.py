"""Search over the site: one page that lists what there is, and a script that narrows the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow.compute as pc

from normbench.board import badges, slugify
from normbench.claims._listed import chosen
from normbench.claims.base import SOURCES
from normbench.pages.context import Context
from normbench.pages.glossary_page import TERMS, cards
from normbench.pages.writer import call, printable

#: Boards that the list names; the pages of the others are in it all the same.
BOARDS = 500


class Found(NamedTuple):
    """One place that a search can find."""

    kind: str
    title: str
    href: str
    words: str
    """Further text that it is found by."""


def write(context: Context) -> None:
    """Write search.html and search-data.js: after all other pages, which it lists."""
    places = list(dict.fromkeys(_places(context)))
    kinds: dict[str, list[Found]] = {}
    for place in places:
        kinds.setdefault(place.kind, []).append(place)
    context.writer.text("search-data.js", call("NB.search", printable([list(p) for p in places])))
    context.writer.page(
        "search.html",
        "search.html",
        title="Search",
        description="Search the benchmark: methods, boards, claims, studies, terms, attacks, measures, suites.",
        kinds=[(slugify(kind), kind, found) for kind, found in kinds.items()],
        total=len(places),
    )


def _places(context: Context) -> Iterator[Found]:
    yield from _pages(context)
    for method in context.methods.values():
        words = " ".join([method.family, *(a for c in method.cards for a in (c.source, *c.aliases))])
        title = f"{method.key}: {method.summary}" if method.cards else method.key
        yield Found("Methods", title, f"methods/{method.slug}.html", words)
    for board in context.results.boards[:BOARDS]:
        words = " ".join([*(b.text for b in badges(board)), *board.suites, *(a["name"] for a in board.attacks)])
        yield Found("Boards", board.title, context.topic_href("accuracy", board), words)
    for group in TERMS.values():
        for term in group:
            yield Found("Terms", term.name, f"glossary.html#{term.anchor}", term.text)
    for claim in chosen():
        said_by = SOURCES[claim.source].short
        yield Found("Claims", claim.summary, f"claims.html#{claim.name}", f"{said_by}, {claim.place}")
    for kind in ("Attacks", "Measures"):
        for card in cards(kind):
            yield Found(kind, card["name"], f"glossary.html#{card['anchor']}", card["summary"])
    for suite in pc.unique(context.results.table.column("suite")).to_pylist():
        yield Found("Suites", suite, f"runs.html#suite={suite}", "runs of the suite")


def _pages(context: Context) -> Iterator[Found]:
    """Pages but those of methods; studies by themselves."""
    for page in context.writer.pages:
        if not page.path.startswith("methods/"):
            kind = "Studies" if page.path.startswith("study-") else "Pages"
            yield Found(kind, page.title, page.path, page.description)
